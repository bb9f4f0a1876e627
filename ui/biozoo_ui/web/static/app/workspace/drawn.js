// Draws a part of the page anew only where what it shows has changed, and leaves the keyboard and
// what was folded open as they were: both are found again by `data-key`.

import { clear } from "../dom.js";

// const draw = drawn(holder); draw([what it shows], () => [...children])
export function drawn(holder) {
  let before = null;
  return (values, children) => {
    const same = before?.length === values.length;
    if (same && values.every((value, i) => Object.is(value, before[i]))) return false;
    before = values;
    const active = document.activeElement;
    const inside = holder.contains(active) && active !== holder;
    const key = inside ? active.dataset.key : undefined;
    const open = [...holder.querySelectorAll("details[open][data-key]")].map(
      (one) => one.dataset.key,
    );
    clear(holder, children());
    for (const one of open) find(holder, one)?.setAttribute("open", "");
    if (inside) {
      const again = find(holder, key);
      (again && !again.disabled ? again : home(holder))?.focus({ preventScroll: true });
    }
    return true;
  };
}

const find = (holder, key) =>
  key ? holder.querySelector(`[data-key="${CSS.escape(key)}"]`) : null;

// Where the keyboard goes on when what it was on has gone.
const home = (holder) => holder.closest("[data-home]")?.querySelector("[tabindex='-1']");
