"""timm and torchvision."""

from __future__ import annotations

from .entry import Architecture

TIMM = "timm:create_model"

ARCHITECTURES = (
    Architecture(
        "hrnet_w18_small, features", "HRNet", TIMM,
        {"model_name": "hrnet_w18_small", "features_only": True, "out_indices": [1, 2, 3]},
        channels=3, size=96,
    ),
    Architecture(
        "convnext_atto, features", "U-NeXt", TIMM,
        {"model_name": "convnext_atto", "features_only": True},
        channels=3, size=96,
    ),
    Architecture(
        "vit_tiny, dense features", "ViT", TIMM,
        {"model_name": "vit_tiny_patch16_224", "img_size": 96, "features_only": True,
         "out_indices": [11]},
        channels=3, size=96,
    ),
    Architecture(
        "vit_tiny, dense features, any size", "ViT", TIMM,
        {"model_name": "vit_tiny_patch16_224", "img_size": 96, "features_only": True,
         "out_indices": [11], "dynamic_img_size": True},
        channels=3, size=96,
    ),
    Architecture(
        "vit_b_16", "ViT", "torchvision.models:VisionTransformer",
        {"image_size": 64, "patch_size": 16, "num_layers": 4, "num_heads": 4, "hidden_dim": 96,
         "mlp_dim": 192, "num_classes": 4},
        channels=3, size=64, note="A classifier: one vector per image.",
    ),
    Architecture(
        "deeplabv3_resnet50", "DeepLab", "torchvision.models.segmentation:deeplabv3_resnet50",
        {"weights": None, "weights_backbone": None, "num_classes": 2}, channels=3, size=64,
    ),
    Architecture(
        "fcn_resnet50", "Pyramid", "torchvision.models.segmentation:fcn_resnet50",
        {"weights": None, "weights_backbone": None, "num_classes": 2}, channels=3, size=64,
    ),
    Architecture(
        "lraspp_mobilenet_v3_large", "DeepLab",
        "torchvision.models.segmentation:lraspp_mobilenet_v3_large",
        {"weights": None, "weights_backbone": None, "num_classes": 2}, channels=3, size=64,
    ),
    Architecture(
        "r3d_18", "3D encoder", "torchvision.models.video:r3d_18",
        {"weights": None, "num_classes": 4}, "bczyx", channels=3, size=(8, 48, 48),
        note="A classifier: one vector per image.",
    ),
)  # fmt: skip
