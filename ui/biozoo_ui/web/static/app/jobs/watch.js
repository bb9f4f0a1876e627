// A job as it goes on, over server-sent events; through a server that was killed and started again.

import { isActive } from "./words.js";

const PAUSE = 2000; // milliseconds until a server that does not answer is asked again

// watchJob(api, id, {onJob(job), onLost(), onGone()}) -> stop(). Ends by itself with the job.
export function watchJob(api, id, { onJob, onLost = () => {}, onGone = () => {} }) {
  const path = `api/jobs/${encodeURIComponent(id)}`;
  let close = () => {};
  let timer = 0;
  let ended = false;
  const stop = () => {
    ended = true;
    clearTimeout(timer);
    close();
  };
  const take = (job) => {
    if (ended) return;
    if (!isActive(job)) stop(); // a browser would ask a stream that ended for ever
    onJob(job);
  };
  const gone = () => {
    stop();
    onGone();
  };
  const lost = () => !ended && onLost();
  const listen = () => {
    close = api.events(
      `${path}/events`,
      { job: take, deleted: gone },
      { onLost: lost, onEnd: ask },
    );
  };
  // The stream was refused: by a proxy, or because the job is not there any more.
  const ask = () => {
    if (ended) return;
    lost();
    timer = setTimeout(async () => {
      try {
        const job = await api.get(path);
        if (ended) return;
        take(job);
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
