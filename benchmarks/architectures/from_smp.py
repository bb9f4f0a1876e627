"""segmentation_models_pytorch: decoders on encoders of its own, of timm and of torchvision."""

from __future__ import annotations

from typing import Any

from .entry import Architecture

SMP = "segmentation_models_pytorch:"
NARROW = {"decoder_channels": [64, 32, 16, 8, 8]}


def _smp(name: str, family: str, decoder: str, encoder: str, **kwargs: Any) -> Architecture:
    size = kwargs.pop("size", 64)
    note = kwargs.pop("note", "")
    given = {"encoder_name": encoder, "encoder_weights": None, "in_channels": 3, "classes": 2}
    return Architecture(
        name, family, SMP + decoder, {**given, **kwargs}, channels=3, size=size, note=note
    )


ARCHITECTURES = (
    _smp("Unet, resnet18", "U-Net, pretrained encoder", "Unet", "resnet18", **NARROW),
    _smp("Unet, mobilenet_v2", "U-Net, pretrained encoder", "Unet", "mobilenet_v2", **NARROW),
    _smp("Unet, efficientnet-b0", "U-Net, pretrained encoder", "Unet", "efficientnet-b0", **NARROW),
    _smp("Unet, densenet121", "U-Net, pretrained encoder", "Unet", "densenet121", **NARROW),
    _smp("Unet, vgg11_bn", "U-Net, pretrained encoder", "Unet", "vgg11_bn", **NARROW),
    _smp(
        "Unet, resnet18, scSE", "Attention U-Net", "Unet", "resnet18",
        decoder_channels=[64, 48, 32, 16, 16], decoder_attention_type="scse",
    ),
    _smp("MAnet, resnet18", "Attention U-Net", "MAnet", "resnet18", **NARROW),
    _smp("Unet, se_resnet50", "SE", "Unet", "se_resnet50", **NARROW),
    _smp("UnetPlusPlus, resnet18", "U-Net++", "UnetPlusPlus", "resnet18", **NARROW),
    _smp("Unet, hrnet_w18_small", "HRNet", "Unet", "tu-hrnet_w18_small", **NARROW),
    _smp(
        "Unet, convnext_atto", "U-NeXt", "Unet", "tu-convnext_atto",
        encoder_depth=4, decoder_channels=[64, 32, 16, 8],
    ),
    _smp("FPN, resnet18", "Pyramid", "FPN", "resnet18", decoder_pyramid_channels=64,
         decoder_segmentation_channels=32),
    _smp("Linknet, resnet18", "Linknet", "Linknet", "resnet18"),
    _smp("PSPNet, resnet18", "Pyramid", "PSPNet", "resnet18", psp_out_channels=64, size=96),
    _smp("PAN, resnet18", "Pyramid", "PAN", "resnet18", size=128),
    _smp("DeepLabV3, resnet18", "DeepLab", "DeepLabV3", "resnet18", decoder_channels=64),
    _smp("DeepLabV3Plus, resnet18", "DeepLab", "DeepLabV3Plus", "resnet18", decoder_channels=64),
    _smp("UPerNet, resnet18", "Pyramid", "UPerNet", "resnet18", decoder_channels=64, size=96),
    _smp("Segformer, mit_b0", "ViT", "Segformer", "mit_b0", decoder_segmentation_channels=64),
    _smp(
        "DPT, vit_tiny", "ViT", "DPT", "tu-vit_tiny_patch16_224",
        decoder_intermediate_channels=[16, 32, 48, 48], decoder_fusion_channels=32,
        size=224,
    ),
)  # fmt: skip
