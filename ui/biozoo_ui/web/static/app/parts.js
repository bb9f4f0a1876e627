// Pieces that every view is made of. Their look is in app.css.

import { clear, el, icon } from "./dom.js";

// What a model or a check says of itself; `why` is shown on hover and on focus.
export function badge(state, words, why = "") {
  const status = { runs: "yes", needs: "note", trust: "note", unknown: "note" }[state] ?? state;
  const drawn = { runs: "yes", trust: "lock", unknown: "note", needs: "note" }[state] ?? status;
  return el(
    "span",
    { class: `zoo-badge ${status}`, title: why, "data-state": state },
    icon(drawn),
    el("span", {}, words),
  );
}

// A sentence that says how something came out, with what can be done about it.
export function notice(status, text, ...actions) {
  const role = status === "no" ? "alert" : "status";
  return el(
    "div",
    { class: `zoo-notice ${status}`, role },
    icon(status === "busy" ? "again" : status),
    el("div", { class: "zoo-notice-words" }, el("p", {}, text), ...actions),
  );
}

// `update({done, total, words})`; without a total it only says that something is being done.
export function progress({ done = 0, total = 0, words = "" } = {}) {
  const bar = el("progress", { "aria-label": "Progress" });
  const line = el("p", {});
  const element = el("div", { class: "zoo-progress", role: "status" }, bar, line);
  element.update = (now) => {
    if (now.total) {
      bar.max = now.total;
      bar.value = now.done;
    } else bar.removeAttribute("value");
    line.textContent = now.words ?? "";
  };
  element.update({ done, total, words });
  return element;
}

export function button(text, { primary = false, quiet = false, icon: drawn, onClick, ...rest } = {}) {
  const kind = primary ? " primary" : quiet ? " quiet" : "";
  return el(
    "button",
    { type: "button", class: `zoo-button${kind}`, on: onClick ? { click: onClick } : {}, ...rest },
    drawn ? icon(drawn) : null,
    el("span", {}, text),
  );
}

export function link(text, href, { primary = false, quiet = false, icon: drawn, ...rest } = {}) {
  const kind = primary ? " primary" : quiet ? " quiet" : "";
  return el(
    "a",
    { class: `zoo-button${kind}`, href, ...rest },
    drawn ? icon(drawn) : null,
    el("span", {}, text),
  );
}

// Text for a terminal or an editor, with a button that copies it.
export function copyable(text, label = "Copy") {
  const code = el("code", {}, text);
  const copy = el("button", { type: "button", class: "zoo-copy" }, label);
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // no clipboard here: select it for Ctrl-C
      copy.textContent = "Selected";
    }
    setTimeout(() => (copy.textContent = label), 1500);
  });
  return el("div", { class: "zoo-code" }, el("pre", { tabindex: "0" }, code), copy);
}

// What stands where nothing is yet.
export function empty(title, text, ...actions) {
  return el(
    "div",
    { class: "zoo-empty" },
    el("h2", {}, title),
    el("p", {}, text),
    actions.length ? el("div", { class: "zoo-actions" }, ...actions) : null,
  );
}

export function waiting(text) {
  return el(
    "p",
    { class: "zoo-waiting", role: "status" },
    el("span", { class: "zoo-spinner", "aria-hidden": true }),
    el("span", {}, text),
  );
}

// Asks once more, in place of the button that was pressed, before something is lost.
export function confirmed(text, question, onYes, options = {}) {
  const holder = el("span", { class: "zoo-confirm" });
  const ask = button(text, { quiet: true, ...options, onClick: () => choose() });
  const choose = () => {
    const back = () => {
      clear(holder, ask);
      ask.focus();
    };
    const no = button("Keep", { quiet: true, onClick: back });
    const yes = button(question, { onClick: onYes, class: "zoo-button danger" });
    clear(holder, yes, no);
    no.focus();
  };
  holder.append(ask);
  return holder;
}

// 4.2 -> "4 seconds", 130 -> "2 minutes"
export function seconds(number) {
  const whole = Math.round(number);
  if (whole < 1) return "less than a second";
  if (whole < 90) return `${whole} second${whole === 1 ? "" : "s"}`;
  const minutes = Math.round(number / 60);
  return minutes < 90 ? `${minutes} minutes` : `${(number / 3600).toFixed(1)} hours`;
}

// 1.234 -> "1.23 s", as a measurement
export function measured(number) {
  if (number < 0.1) return `${Math.round(number * 1000)} ms`;
  return number < 10 ? `${number.toFixed(2)} s` : `${number.toFixed(1)} s`;
}

export function bytes(number) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let step = 0;
  while (number >= 1000 && step < units.length - 1) [number, step] = [number / 1000, step + 1];
  return `${step && number < 10 ? number.toFixed(1) : Math.round(number)} ${units[step]}`;
}

// "2026-11-23T14:03:00Z" -> "today 14:03", "yesterday 09:10", "3 Nov 2026 09:10"
export function when(iso, now = new Date()) {
  const moment = new Date(iso);
  const clock = moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const day = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
  const days = Math.round((day(now) - day(moment)) / 86_400_000);
  if (days === 0) return `today ${clock}`;
  if (days === 1) return `yesterday ${clock}`;
  const date = moment.toLocaleDateString([], { day: "numeric", month: "short", year: "numeric" });
  return `${date} ${clock}`;
}
