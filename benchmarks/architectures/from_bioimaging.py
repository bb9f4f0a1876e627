"""Libraries made for bioimages: careamics, cellpose, biapy, torch-em, pytorch-3dunet."""

from __future__ import annotations

from .entry import Architecture

BIAPY = "biapy.models."
FOUR = {"feature_maps": [8, 16, 32, 64], "drop_values": [0.0, 0.0, 0.0, 0.0]}
#: biapy's networks do not know their own default activation ("ELU").
ELU = {"activation": "elu"}
ONE = {"return_one_tensor": True}
P3 = "pytorch3dunet.unet3d.model:"
NARROW = {"in_channels": 1, "out_channels": 2, "f_maps": 8, "num_groups": 4}
CARE = "careamics.models.unet:UNet"

ARCHITECTURES = (
    Architecture(
        "careamics UNet 2D", "U-Net", CARE, {"conv_dims": 2, "num_channels_init": 8}
    ),
    Architecture(
        "careamics UNet 3D", "U-Net", CARE, {"conv_dims": 3, "num_channels_init": 8}, "bczyx",
        size=32,
    ),
    Architecture(
        "careamics UNet 2D, N2V2", "U-Net", CARE,
        {"conv_dims": 2, "num_channels_init": 8, "n2v2": True},
    ),
    Architecture(
        "careamics UNet 2D, 33 outputs", "Distance and flow heads", CARE,
        {"conv_dims": 2, "num_channels_init": 8, "num_classes": 33},
        note="A head as StarDist's (32 rays and a probability) on careamics' U-Net; StarDist's "
        "own network is TensorFlow.",
    ),
    Architecture(
        "UNet 2D, 3 outputs", "Distance and flow heads", "monai.networks.nets:UNet",
        {"spatial_dims": 2, "in_channels": 2, "out_channels": 3, "channels": [8, 16, 32, 64],
         "strides": [2, 2, 2], "num_res_units": 2, "norm": "BATCH"},
        channels=2,
        note="A head as Cellpose 1 to 3's (two flows and a probability) on a residual U-Net; "
        "cellpose 4 no longer has that network.",
    ),
    Architecture(
        "CPSAM", "Distance and flow heads", "cellpose.vit:CPSAM", {"bsize": 64},
        channels=3, size=64, outputs=(0,), heavy=True,
        note="Cellpose-SAM at full depth (ViT-L), for tiles of 64 instead of 256 pixels.",
    ),
    Architecture(
        "SAM encoder, small", "ViT", "segment_anything.modeling:ImageEncoderViT",
        {"img_size": 64, "patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 4,
         "out_chans": 32, "use_rel_pos": True},
        channels=3, size=64, note="What Cellpose-SAM and micro-SAM build on.",
    ),
    Architecture(
        "MultiResUnet 2D", "MultiResUNet", BIAPY + "multiresunet:MultiResUnet",
        {"ndim": 2, "input_channels": 1, **ONE},
    ),
    Architecture(
        "MultiResUnet 3D", "MultiResUNet", BIAPY + "multiresunet:MultiResUnet",
        {"ndim": 3, "input_channels": 1, **ONE}, "bczyx", size=32,
    ),
    Architecture(
        "U_NeXt_V1 2D", "U-NeXt", BIAPY + "unext_v1:U_NeXt_V1",
        {"image_shape": [64, 64, 1], "feature_maps": [8, 16, 32, 64],
         "cn_layers": [1, 1, 1, 1], **ONE},
    ),
    Architecture(
        "U_NeXt_V2 3D", "U-NeXt", BIAPY + "unext_v2:U_NeXt_V2",
        {"image_shape": [32, 32, 32, 1], "feature_maps": [8, 16, 32, 64],
         "cn_layers": [1, 1, 1, 1], **ONE}, "bczyx", size=32,
    ),
    Architecture(
        "ResUNet 2D", "Residual U-Net", BIAPY + "resunet:ResUNet",
        {"image_shape": [64, 64, 1], **FOUR, **ELU, **ONE},
    ),
    Architecture(
        "ResUNet_SE 3D", "SE", BIAPY + "resunet_se:ResUNet_SE",
        {"image_shape": [32, 64, 64, 1], **FOUR, **ELU, "z_down": [1, 1, 2, 2], **ONE}, "bczyx",
        size=(16, 48, 48),
    ),
    Architecture(
        "Attention_U_Net 2D", "Attention U-Net", BIAPY + "attention_unet:Attention_U_Net",
        {"image_shape": [64, 64, 1], **FOUR, **ELU, **ONE},
    ),
    Architecture(
        "rcan 2D, twice the size", "Super-resolution", BIAPY + "rcan:rcan",
        {"ndim": 2, "num_channels": 1, "filters": 16, "num_rg": 2, "num_rcab": 2, "reduction": 4},
    ),
    Architecture(
        "torch_em UNet2d", "U-Net", "torch_em.model.unet:UNet2d",
        {"in_channels": 1, "out_channels": 2, "initial_features": 8},
    ),
    Architecture(
        "torch_em AnisotropicUNet", "Anisotropic 3D", "torch_em.model.unet:AnisotropicUNet",
        {"in_channels": 1, "out_channels": 2, "initial_features": 8,
         "scale_factors": [[1, 2, 2], [1, 2, 2], [2, 2, 2]], "final_activation": "Sigmoid"},
        "bczyx", size=(16, 48, 48),
    ),
    Architecture(
        "pytorch-3dunet UNet3D", "U-Net", P3 + "UNet3D", {**NARROW, "num_levels": 3}, "bczyx",
        size=32,
    ),
    Architecture(
        "pytorch-3dunet ResidualUNet3D", "Residual U-Net", P3 + "ResidualUNet3D",
        {**NARROW, "num_levels": 3}, "bczyx", size=32,
    ),
    Architecture(
        "pytorch-3dunet ResidualUNetSE3D", "SE", P3 + "ResidualUNetSE3D",
        {**NARROW, "num_levels": 3}, "bczyx", size=32,
    ),
)  # fmt: skip
