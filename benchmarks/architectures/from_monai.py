"""MONAI's networks."""

from __future__ import annotations

from .entry import Architecture

NETS = "monai.networks.nets:"
PLAIN = {"in_channels": 1, "out_channels": 2}
LEVELS = {"channels": [8, 16, 32], "strides": [2, 2]}
#: For autoencoders, which want a stride per level.
ALL_LEVELS = {"channels": [8, 16, 32], "strides": [2, 2, 2]}
WIDTHS = {"features": [8, 8, 16, 32, 64, 8]}
#: Thin along z at first, as in anisotropic microscopy stacks.
FLAT = {
    "kernel_size": [[1, 3, 3], [1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2]],
    "upsample_kernel_size": [[1, 2, 2], [1, 2, 2], [2, 2, 2]],
    "filters": [8, 12, 16, 24],
}
#: HighResNet's layers, fewer and narrower than its 20.
SHORT = [
    {"name": "conv_0", "n_features": 8, "kernel_size": 3},
    {"name": "res_1", "n_features": 8, "kernels": [3, 3], "repeat": 1},
    {"name": "res_2", "n_features": 12, "kernels": [3, 3], "repeat": 1},
    {"name": "res_3", "n_features": 16, "kernels": [3, 3], "repeat": 1},
    {"name": "conv_1", "n_features": 16, "kernel_size": 1},
    {"name": "conv_2", "kernel_size": 1},
]
CUBIC = {
    "kernel_size": [3, 3, 3, 3],
    "strides": [1, 2, 2, 2],
    "upsample_kernel_size": [2, 2, 2],
    "filters": [8, 16, 24, 32],
}


def _2d(**kwargs: object) -> dict[str, object]:
    return {"spatial_dims": 2, **PLAIN, **kwargs}


def _3d(**kwargs: object) -> dict[str, object]:
    return {"spatial_dims": 3, **PLAIN, **kwargs}


ARCHITECTURES = (
    Architecture("UNet 2D", "U-Net", NETS + "UNet", _2d(**LEVELS)),
    Architecture(
        "UNet 2D, batch norm", "U-Net", NETS + "UNet", _2d(**LEVELS, norm="BATCH", act="RELU")
    ),
    Architecture("UNet 3D", "U-Net", NETS + "UNet", _3d(**LEVELS), "bczyx", size=32),
    Architecture("BasicUNet 2D", "U-Net", NETS + "BasicUNet", _2d(**WIDTHS)),
    Architecture(
        "BasicUNet 2D, interpolating", "U-Net", NETS + "BasicUNet",
        _2d(**WIDTHS, upsample="nontrainable"),
    ),
    Architecture("BasicUNet 3D", "U-Net", NETS + "BasicUNet", _3d(**WIDTHS), "bczyx", size=32),
    Architecture("DynUNet 2D", "U-Net", NETS + "DynUNet", _2d(**CUBIC)),
    Architecture(
        "DynUNet 3D, residual blocks", "Residual U-Net", NETS + "DynUNet",
        _3d(**CUBIC, res_block=True), "bczyx", size=32,
    ),
    Architecture(
        "DynUNet 3D, anisotropic", "Anisotropic 3D", NETS + "DynUNet",
        _3d(**FLAT), "bczyx", size=(16, 48, 48),
    ),
    Architecture(
        "UNet 3D, anisotropic strides", "Anisotropic 3D", NETS + "UNet",
        _3d(channels=[8, 16, 32], strides=[[1, 2, 2], [2, 2, 2]], kernel_size=[1, 3, 3],
            up_kernel_size=[1, 3, 3]),
        "bczyx", size=(16, 48, 48),
    ),
    Architecture(
        "UNet 2D, residual units", "Residual U-Net", NETS + "UNet", _2d(**LEVELS, num_res_units=2)
    ),
    Architecture(
        "UNet 3D, residual units", "Residual U-Net", NETS + "UNet",
        _3d(**LEVELS, num_res_units=2), "bczyx", size=32,
    ),
    Architecture("SegResNet 2D", "Residual U-Net", NETS + "SegResNet", _2d(init_filters=8)),
    Architecture(
        "SegResNet 3D", "Residual U-Net", NETS + "SegResNet", _3d(init_filters=8), "bczyx", size=32
    ),
    Architecture(
        "SegResNetDS 3D", "Residual U-Net", NETS + "SegResNetDS",
        _3d(init_filters=8, blocks_down=[1, 2, 2]), "bczyx", size=32,
    ),
    Architecture("VNet 2D", "V-Net", NETS + "VNet", {**_2d(), "dropout_dim": 2}),
    Architecture("VNet 3D", "V-Net", NETS + "VNet", _3d(), "bczyx", size=32, heavy=True),
    Architecture("AttentionUnet 2D", "Attention U-Net", NETS + "AttentionUnet", _2d(**LEVELS)),
    Architecture(
        "AttentionUnet 3D", "Attention U-Net", NETS + "AttentionUnet", _3d(**LEVELS), "bczyx",
        size=32,
    ),
    Architecture("BasicUNetPlusPlus 2D", "U-Net++", NETS + "BasicUNetPlusPlus", _2d(**WIDTHS)),
    Architecture(
        "BasicUNetPlusPlus 3D", "U-Net++", NETS + "BasicUNetPlusPlus", _3d(**WIDTHS), "bczyx",
        size=32,
    ),
    Architecture(
        "UNETR 2D", "UNETR", NETS + "UNETR",
        _2d(img_size=64, feature_size=8, hidden_size=48, mlp_dim=96, num_heads=4),
    ),
    Architecture(
        "UNETR 3D", "UNETR", NETS + "UNETR",
        _3d(img_size=32, feature_size=8, hidden_size=48, mlp_dim=96, num_heads=4), "bczyx", size=32,
    ),
    Architecture(
        "SwinUNETR 2D", "UNETR", NETS + "SwinUNETR", _2d(feature_size=12, use_v2=True), heavy=True
    ),
    Architecture(
        "SwinUNETR 3D", "UNETR", NETS + "SwinUNETR",
        _3d(feature_size=12, depths=[1, 1, 1, 1], num_heads=[3, 3, 6, 6]),
        "bczyx", size=64, heavy=True,
    ),
    Architecture(
        "MedNeXt 2D", "U-NeXt", NETS + "MedNeXt", _2d(init_filters=8, kernel_size=5)
    ),
    Architecture(
        "MedNeXt 3D", "U-NeXt", NETS + "MedNeXt", _3d(init_filters=8, kernel_size=3), "bczyx",
        size=32,
    ),
    Architecture(
        "FlexibleUNet 2D", "U-Net, pretrained encoder", NETS + "FlexibleUNet",
        _2d(backbone="efficientnet-b0", decoder_channels=[64, 32, 16, 8, 8]),
    ),
    Architecture(
        "HighResNet 3D", "Dilated", NETS + "HighResNet", _3d(layer_params=SHORT), "bczyx", size=32
    ),
    Architecture(
        "SENet 2D", "SE", NETS + "SENet",
        {"spatial_dims": 2, "in_channels": 1, "block": "se_resnet_bottleneck",
         "layers": [1, 1, 1, 1], "groups": 1, "reduction": 4, "inplanes": 64, "num_classes": 4},
        note="A classifier: one vector per image.",
    ),
    Architecture(
        "HoVerNet", "Distance and flow heads", NETS + "HoVerNet",
        {"mode": "fast", "in_channels": 3, "np_out_channels": 2, "out_classes": 4},
        channels=3, size=256, heavy=True,
    ),
    Architecture("AutoEncoder 2D", "Autoencoder", NETS + "AutoEncoder", _2d(**ALL_LEVELS)),
    Architecture(
        "AutoEncoder 3D", "Autoencoder", NETS + "AutoEncoder", _3d(**ALL_LEVELS), "bczyx", size=32
    ),
    Architecture(
        "VarAutoEncoder 2D", "Autoencoder", NETS + "VarAutoEncoder",
        {"spatial_dims": 2, "in_shape": [1, 64, 64], "out_channels": 1, "latent_size": 8,
         **ALL_LEVELS, "use_mean_at_inference": True},
    ),
    Architecture(
        "AutoencoderKL 2D", "Autoencoder", NETS + "AutoencoderKL",
        {"spatial_dims": 2, "channels": [8, 16], "num_res_blocks": 1, "norm_num_groups": 4,
         "attention_levels": [False, False], "with_encoder_nonlocal_attn": False,
         "with_decoder_nonlocal_attn": False},
        note="Draws from a normal distribution when it is called, as published.",
    ),
    Architecture(
        "ResNet-18 3D, features", "3D encoder", NETS + "resnet18",
        {"spatial_dims": 3, "n_input_channels": 1, "num_classes": 4, "widen_factor": 0.25},
        "bczyx", size=48, note="A classifier: one vector per image.",
    ),
    Architecture(
        "ViTAutoEnc 2D", "ViT", NETS + "ViTAutoEnc",
        {"spatial_dims": 2, "in_channels": 1, "img_size": 64, "patch_size": 16, "hidden_size": 48,
         "mlp_dim": 96, "num_layers": 4, "num_heads": 4},
        outputs=(0,), note="Its hidden states are left out (`keep_outputs: [0]`).",
    ),
)  # fmt: skip
