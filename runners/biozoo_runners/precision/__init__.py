"""Lower precisions and faster backends, used only where they are proven on the image at hand.

    with biozoo_runners.load(package, precision="auto") as model:
        result = model("cells.ome.tif")
    print(result.report.precision)          # what ran, and the evidence

`candidates` lists what could run here, `cases` takes the test tensors and a few tiles of the image,
`proof` compares both ways on them, `settling` decides, `remembered` keeps what was decided. See
docs/design/precision.md.
"""
