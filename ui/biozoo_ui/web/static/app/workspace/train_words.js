// What is said of a training as it goes on. Pure functions; the list of jobs uses them too.

import { seconds } from "../parts.js";

const ACTIVE = ["waiting", "running", "paused"];

export const isActive = (training) => ACTIVE.includes(training.state);

// What its bar shows: {done, total, words}.
export function barOf({ state, stage, stopping, steps, loss, seconds_left: left }) {
  if (stopping) return { words: "Stops after the step it is at." };
  if (state === "waiting") return { words: "Waits until the training before it is done." };
  const training = stage === "Trains" && steps.total > 0;
  const parts = [training ? `${steps.done} of ${steps.total} steps` : `${stage ?? "Begins"}...`];
  if (state === "paused") parts.push("paused");
  else if (training && left > 0) parts.push(`about ${seconds(left)} left`);
  if (training && loss !== null) parts.push(`loss ${loss.toFixed(3)}`);
  return training
    ? { done: steps.done, total: steps.total, words: parts.join(", ") }
    : { words: parts.join(", ") };
}
