// The server's routes. Paths are relative to where the server's pages begin ("api/jobs"), so the
// page also works below a prefix of another server.

const BASE = new URL("../../", import.meta.url);
const SILENT = "The server does not answer. Is it still running? Try again in a moment.";

// An answer that says no, in the server's own sentence. `status` is 0 where there was no answer.
export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

// An address of the server; one that begins with "/" is taken from the same place.
export function url(path) {
  return new URL(path.replace(/^\//, ""), BASE).href;
}

export const get = (path, options) => ask("GET", path, undefined, options);
export const post = (path, body = {}, options) => ask("POST", path, body, options);
export const put = (path, body = {}, options) => ask("PUT", path, body, options);
export const remove = (path, options) => ask("DELETE", path, undefined, options);

async function ask(method, path, body, { signal } = {}) {
  const options = { method, signal, headers: { accept: "application/json" } };
  if (body instanceof Blob) options.body = body; // a file, as it is
  else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["content-type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(url(path), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(SILENT, 0);
  }
  if (answer.status === 401) return signIn();
  const words = await answer.text();
  if (!answer.ok) throw new ApiError(sentence(words, answer.status), answer.status);
  return words && answer.headers.get("content-type")?.includes("json") ? JSON.parse(words) : words;
}

// Whoever was logged out in the meantime comes back to where they were.
function signIn() {
  const here = location.pathname + location.search + location.hash;
  location.assign(`${url("login")}?next=${encodeURIComponent(here)}`);
  return new Promise(() => {}); // the page is going away
}

function sentence(words, status) {
  try {
    return JSON.parse(words).error ?? words;
  } catch {
    return `The server answered with an error (${status}).`;
  }
}

// A file as the raw body of a request, the only way to see how much of it has been sent.
export function upload(file, { onProgress = () => {}, signal } = {}) {
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    request.open("POST", url(`api/images/uploads?name=${encodeURIComponent(file.name)}`));
    request.upload.onprogress = (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    };
    request.onload = () => {
      if (request.status === 401) return signIn();
      if (request.status < 300) done(JSON.parse(request.responseText));
      else fail(new ApiError(sentence(request.responseText, request.status), request.status));
    };
    request.onerror = () => fail(new ApiError(SILENT, 0));
    request.onabort = () => fail(new DOMException("The upload was stopped.", "AbortError"));
    signal?.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

// Server-sent events: events("api/jobs/ID/events", {job: (data) => ...}, {onEnd, onLost}).
// The browser connects again by itself; `onLost` is called when it has to, `onEnd` when the server
// says there is no more. Returns what closes it.
export function events(path, listeners, { onEnd = () => {}, onLost = () => {} } = {}) {
  const source = new EventSource(url(path));
  for (const [name, listener] of Object.entries(listeners)) {
    source.addEventListener(name, (event) => listener(JSON.parse(event.data)));
  }
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) onEnd();
    else onLost();
  };
  return () => source.close();
}
