// Step 3: whether the model fits the image, what is done about what does not, and the choices.

import { notice, waiting } from "../parts.js";
import { el, icon } from "../dom.js";
import { channelOf, channelParam, scaleParam } from "./choices.js";
import { folded, labelled, step } from "./step.js";
import { capital, sentence } from "./words.js";

export function checkStep(space) {
  const here = step(3, "Check");
  const sync = (state, params) => {
    const { check, checking, checkError, image, model } = state;
    const possible = Boolean(image && model);
    here.state(!possible ? "later" : check?.ok && !checking ? "done" : "now");
    here.element.toggleAttribute("data-checking", possible && checking);
    const values = [
      possible,
      check,
      checkError,
      possible && checking && !check,
      params.channel,
      params.scale,
    ];
    here.draw(values, () => {
      if (!possible)
        return [el("p", { class: "work-soft" }, "Says whether the model fits the image.")];
      if (checkError) return [notice("no", checkError)];
      if (!check) return checking ? [waiting("Checks whether they fit...")] : [];
      return shown(space, check, params);
    });
  };
  return { element: here.element, number: here.number, sync };
}

function shown(space, check, params) {
  const { verdict, items, channels, channels_by_input: byInput = {}, scale, loops } = check;
  const asked = channelOf(params.channel);
  const choose = (channel) => space.choose({ channel: channelParam(channel) });
  // That there is no graphics card matters little to whoever looks at an image.
  const matter = items.filter(
    (one) => one.status === "no" || (one.status === "note" && one.topic !== "Device"),
  );
  const told = matter.length || loops;
  return [
    el("div", { "data-verdict": verdict.status }, notice(verdict.status, verdict.text)),
    told
      ? el(
          "ul",
          { class: "work-items" },
          ...matter.map(item),
          loops && !matter.some((one) => one.what.includes(loops))
            ? item({ status: "yes", what: `The model runs on ${loops}.`, todo: "" })
            : null,
        )
      : null,
    channels ? channelChoice(channels, asked, choose) : null,
    ...Object.entries(byInput).map(([id, one]) =>
      channelChoice(one, asked?.[id], (channel) => choose({ ...asked, [id]: channel }), id),
    ),
    scale ? scaleChoice(space, scale) : null,
    folded(
      "checked",
      "All that was checked",
      el("ul", { class: "work-items" }, ...items.map(item)),
    ),
  ];
}

function item({ status, what, todo }) {
  return el(
    "li",
    { class: status },
    icon(status),
    el(
      "span",
      {},
      sentence(what),
      todo ? el("span", { class: "work-soft" }, ` ${sentence(todo)}`) : null,
    ),
  );
}

// One list for each channel of the model; a model of one channel has a row of buttons. `input`
// names one image of several.
function channelChoice({ wanted, model, image, chosen }, asked, choose, input = "") {
  const now = asked === undefined ? (chosen ?? []) : [asked].flat();
  const same = (one, value) =>
    [one.value, one.label].some((known) => String(known) === String(value));
  const at = (i) => (now[i] === undefined ? -1 : image.findIndex((one) => same(one, now[i])));
  const of = input ? ` of ${input}` : "";
  if (wanted === 1) return single(image, at(0), choose, input, of);
  const selects = Array.from({ length: wanted }, (_, i) =>
    el(
      "select",
      { class: "zoo-field", "data-key": `channel-${input}${i}`, "data-channel": model[i] ?? i },
      el("option", { value: "", selected: at(i) < 0 }, "Choose"),
      ...image.map((one, k) => el("option", { value: k, selected: at(i) === k }, one.label)),
    ),
  );
  const take = () => {
    // Half a choice is none: it is kept here until it is whole.
    if (selects.every((one) => one.value !== ""))
      choose(selects.map((one) => image[one.value].value));
  };
  return el(
    "fieldset",
    { class: "work-group", on: { change: take } },
    el("legend", {}, `Which channel${of} is which`),
    ...selects.map((one, i) => labelled(`The model's ${model[i] ?? `channel ${i + 1}`}`, one)),
  );
}

function single(image, now, choose, input, of) {
  const radios = image.map((one, k) =>
    el(
      "label",
      { class: "work-pick" },
      el("input", {
        type: "radio",
        name: `work-channel-${input}`,
        value: k,
        checked: k === now,
        "data-key": `channel-${input}${k}`,
        on: { change: () => choose(one.value) },
      }),
      el("span", {}, one.label),
    ),
  );
  return el(
    "fieldset",
    { class: "work-group" },
    el("legend", {}, `Channel${of} to look at`),
    el("div", { class: "work-picks" }, ...radios),
  );
}

function scaleChoice(space, { choices, chosen, about }) {
  const now = choices.findIndex((one) => one.value === (chosen ?? null));
  const select = el(
    "select",
    {
      class: "zoo-field",
      "data-key": "scale",
      "data-scale": "",
      on: { change: () => space.choose({ scale: scaleParam(choices[select.value].value) }) },
    },
    ...choices.map((one, k) => el("option", { value: k, selected: k === now }, capital(one.label))),
  );
  return el(
    "div",
    { class: "work-group" },
    labelled(el("b", {}, "Scale"), select),
    about ? el("p", { class: "work-soft" }, about) : null,
  );
}
