// Which version of each tile is wanted, of a layer that is painted on: an edit makes only those
// tiles new that it touched. The ones of before stand in until the new ones have come.

const MOST = 400; // edits that are told apart; then all tiles are asked for anew, once
const FORMERS = 12; // versions of a tile that may stand in

export class Stamps {
  #changes = []; // oldest first: {version, time, z, y, x}

  constructor(version) {
    this.base = version; // of tiles that nothing has changed since
    this.version = version;
  }

  /** What an answer of the server told: where pixels changed, and with which version. */
  add(changes, version) {
    for (const change of changes) if (change.version > this.version) this.#changes.push(change);
    this.version = Math.max(this.version, version);
    while (this.#changes.length > MOST) this.base = this.#changes.shift().version;
  }

  /** All of the image may be new; what is here stands in. */
  renew(version) {
    if (version <= this.version) return;
    const every = [-Infinity, Infinity];
    this.add([{ version, time: every, z: every, y: every, x: every }], version);
  }

  /** The versions of a tile that may be here, the wanted one first. `side`: in level 0 pixels. */
  of(side, plane, row, column) {
    const meets = ([from, to], first, last) => from < last && to > first;
    const found = [];
    for (let i = this.#changes.length - 1; i >= 0 && found.length < FORMERS; i--) {
      const change = this.#changes[i];
      if (
        meets(change.y, row * side, (row + 1) * side) &&
        meets(change.x, column * side, (column + 1) * side) &&
        meets(change.z, plane.z, plane.z + 1) &&
        meets(change.time, plane.time, plane.time + 1)
      )
        found.push(change.version);
    }
    found.push(this.base);
    return found;
  }
}
