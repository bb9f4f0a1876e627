// The simulated images that anybody can look around with: kind, name, what it is of.

export const SAMPLES = [
  ["nuclei", "Nuclei", "fluorescence"],
  ["histology", "Tissue", "histology"],
  ["em", "Membranes", "electron microscopy"],
];
