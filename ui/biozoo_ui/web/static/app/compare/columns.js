// The columns of a comparison as they stand in the address: which model, at which scale.

import { decoded } from "../router.js";

export const MOST = 4; // a browser keeps few graphics contexts

// {models: "a,b", scales: ",auto"} -> [{model: "a", scale: ""}, {model: "b", scale: "auto"}]
export function columnsOf({ models = "", scales = "" }) {
  const factors = scales.split(",");
  return models
    .split(",")
    .filter(Boolean)
    .slice(0, MOST)
    .map((id, i) => ({ model: decoded(id), scale: factors[i] ?? "" }));
}

export function columnsParams(columns) {
  const scales = columns.map((one) => one.scale ?? "");
  return {
    models: columns.map((one) => encodeURIComponent(one.model)).join(",") || undefined,
    scales: scales.some(Boolean) ? scales.join(",") : undefined,
  };
}
