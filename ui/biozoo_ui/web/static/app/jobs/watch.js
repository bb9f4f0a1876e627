// A job or a training as it goes on, over server-sent events; through a server that was killed and
// started again.

import { isActive } from "./words.js";

const PAUSE = 2000; // milliseconds until a server that does not answer is asked again

// watchJob(api, id, {onJob(job), onLost(), onGone()}) -> stop(). Ends by itself with the job.
export const watchJob = (api, id, { onJob, ...more }) =>
  watch(api, { path: `api/jobs/${encodeURIComponent(id)}`, event: "job", isActive }, onJob, more);

// The same of whatever is told at `path` and, as `event`, at `path/events`.
export function watch(
  api,
  { path, event, isActive: goesOn },
  onChange,
  { onLost = () => {}, onGone = () => {} } = {},
) {
  let close = () => {};
  let timer = 0;
  let ended = false;
  const stop = () => {
    ended = true;
    clearTimeout(timer);
    close();
  };
  const take = (now) => {
    if (ended) return;
    if (!goesOn(now)) stop(); // a browser would ask a stream that ended for ever
    onChange(now);
  };
  const gone = () => {
    stop();
    onGone();
  };
  const lost = () => !ended && onLost();
  const listen = () => {
    close = api.events(
      `${path}/events`,
      { [event]: take, deleted: gone },
      { onLost: lost, onEnd: ask },
    );
  };
  // The stream was refused: by a proxy, or because the job is not there any more.
  const ask = () => {
    if (ended) return;
    lost();
    timer = setTimeout(async () => {
      try {
        const now = await api.get(path);
        if (ended) return;
        take(now);
        if (!ended) listen();
      } catch (error) {
        if (error.status === 404) gone();
        else ask();
      }
    }, PAUSE);
  };
  listen();
  return stop;
}
