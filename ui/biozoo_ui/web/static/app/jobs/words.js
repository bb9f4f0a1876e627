// What is said of a job: its state, how far it is, what was chosen. Pure functions.

import { seconds } from "../parts.js";

const STATES = {
  waiting: ["note", "Waits"],
  running: ["note", "Runs"],
  paused: ["note", "Paused"],
  done: ["yes", "Done"],
  failed: ["no", "Failed"],
  cancelled: ["note", "Cancelled"],
  interrupted: ["note", "Interrupted"],
};

export const isActive = (job) => job.state === "waiting" || job.state === "running";

// [status, words] of its badge.
export function stateWords(job) {
  if (job.stopping && isActive(job)) return ["note", "Stops"];
  return STATES[job.state] ?? ["note", job.state];
}

// One line under the bar: what is done now, how far it is, how long it takes still.
export function progressWords(job) {
  if (job.stopping) return "Stops after the tile it is at.";
  if (job.state === "waiting") return "Waits until the run before it is done.";
  const { done, total } = job.tiles;
  const stage = job.stage ? `${job.stage[0].toUpperCase()}${job.stage.slice(1)}` : "";
  if (!total) return stage ? `${stage}...` : "Loads the model...";
  const parts = [
    done < total ? `${done} of ${total} tiles done` : stage || "Puts the tiles together",
  ];
  if (done < total && job.seconds_left > 0) parts.push(`about ${seconds(job.seconds_left)} left`);
  return parts.join(", ");
}

// The button that goes on: "Go on from tile 12 of 64".
export function resumeWords(job) {
  const { done, total } = job.tiles;
  return done && total ? `Go on from tile ${done} of ${total}` : "Run it again";
}

// "channel DAPI, scale 0.5", or "" where nothing was chosen.
export function choiceWords(choices = {}) {
  const told = [];
  const { channel, scale, axes, region, min_size: least } = choices;
  if (channel !== null && channel !== undefined) told.push(`channel ${listed(channel)}`);
  if (scale === "auto") told.push("scale from the pixel size");
  else if (scale !== null && scale !== undefined) told.push(`scale ${listed(scale)}`);
  if (axes) told.push(`axes ${axes}`);
  if (region) told.push("a part of the image");
  if (least) told.push(`objects from ${least} pixels`);
  return told.join(", ");
}

function listed(value) {
  if (Array.isArray(value)) return value.join(", ");
  if (typeof value !== "object") return String(value);
  return Object.entries(value)
    .map(([key, one]) => `${key} ${listed(one)}`)
    .join(", ");
}

export function objectWords(count) {
  return count === 1 ? "1 object" : `${count.toLocaleString("en")} objects`;
}

// Seconds that it ran, or null.
export function took(job) {
  if (!job.started || !job.ended) return null;
  return Math.max(0, (new Date(job.ended) - new Date(job.started)) / 1000);
}
