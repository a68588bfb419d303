"""How the vision transformers compute: timm's results, up to rounding, without what they do not depend on.

Training and classification read the CLS token alone, after the last norm. `cls_tokens` and `cls_after` give it
for less than ``forward_features(views)[:, 0]`` costs (`all_tokens` is for what reads the patch tokens too):

- Views of several sizes go through norms and linear layers as one list of tokens and are split for attention
  alone. One large matrix product fills a GPU better than several small ones.
- In the last block the CLS token of each view is the only query, and nothing but it goes on. Its attention
  needs no key and no value of the other tokens: with tokens y, query q, and the projections K and V of a head
  with their biases b,

      softmax(q . (K y + b))      = softmax((K^T q) . y)      since q . b is the same for all tokens,
      sum over y of p (V y + b)   = V (sum over y of p y) + b      since the weights p add up to 1,

  so one vector for each head and view is projected in place of all tokens.
- Patches do not overlap, so their embedding is a linear layer on their pixels. As a convolution, in bfloat16 on two
  threads of a CPU, it made a step of the demo take 4 to 10 times as long (measured).
- Attention on a CPU is written out (`attend`).

Networks that are built otherwise than timm's plain vision transformer are computed as timm does.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from timm.layers import Attention, DropPath, PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn
from torch.utils.checkpoint import checkpoint

# Views of one size: how many, and the tokens of each.
Shape = tuple[int, int]


class SteadyAttention(Attention):
    """timm's attention, written out on a CPU."""

    def forward(
        self, x: torch.Tensor, attn_mask: torch.Tensor | None = None, is_causal: bool = False
    ) -> torch.Tensor:
        """Attend over tokens (N, tokens, width)."""
        if x.device.type != "cpu" or attn_mask is not None or is_causal or not is_plain(self):
            return super().forward(x, attn_mask, is_causal)
        return self.proj_drop(self.proj(attend(self.qkv(x), self.num_heads, self.scale)))


def is_plain(attention: nn.Module) -> bool:
    """Whether an attention layer is softmax of products of queries and keys, and no more."""
    return (
        isinstance(attention, Attention)
        and all(type(each) is nn.Identity for each in (attention.q_norm, attention.k_norm))
        and type(attention.norm) is nn.Identity
        and attention.gate is None
        and attention.attn_drop.p == 0
    )


def attend(qkv: torch.Tensor, heads: int, scale: float) -> torch.Tensor:
    """Attention of all tokens of a view to each other.

    On a CPU it is written out: PyTorch's fused attention takes 3 to 9 times as long there for the few
    tokens of small views (measured, forward and backward). Softmax of bfloat16 computes in float32 within.

    Parameters
    ----------
    qkv : tensor, shape (N, tokens, 3 * width)
        Queries, keys and values side by side.
    heads, scale
        Number of heads, and the factor of the products.

    Returns
    -------
    tensor, shape (N, tokens, width)
    """
    count, tokens, width = qkv.shape
    parts = qkv.reshape(count, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
    if qkv.device.type == "cpu":
        q, k, v = parts.contiguous()  # one copy here, instead of one before each product
        mixed = ((q * scale) @ k.transpose(-2, -1)).softmax(dim=-1) @ v
    else:
        mixed = F.scaled_dot_product_attention(*parts.unbind(0), scale=scale)
    return mixed.transpose(1, 2).reshape(count, tokens, width // 3)


def cls_tokens(vit: nn.Module, *batches: torch.Tensor) -> torch.Tensor:
    """Give the CLS token of each view, after the last norm.

    Parameters
    ----------
    vit
        A transformer of timm.
    batches : float tensors, shape (N, channels, size, size)
        Views, one batch for each size.

    Returns
    -------
    tensor, shape (views of all batches, width)
    """
    if not _is_plain_transformer(vit):
        return torch.cat([vit.forward_features(views)[:, 0] for views in batches])
    tokens = [vit.norm_pre(vit._pos_embed(_embed(vit, views))) for views in batches]
    return vit.norm(cls_after(vit.blocks, *tokens, checkpointed=vit.grad_checkpointing))


def all_tokens(vit: nn.Module, views: torch.Tensor) -> torch.Tensor:
    """Give all tokens of views (N, channels, size, size) after the last norm: (N, tokens, width), CLS token first."""
    if not _is_plain_transformer(vit) or not all(map(_is_plain_block, vit.blocks)):
        return vit.forward_features(views)
    tokens = vit.norm_pre(vit._pos_embed(_embed(vit, views)))
    shape = tokens.shape[:2]
    tokens = tokens.flatten(0, 1)
    for block in vit.blocks:
        tokens = _run(vit.grad_checkpointing, _block, block, tokens, [shape])
    return vit.norm(tokens).unflatten(0, shape)


def _is_plain_transformer(vit: nn.Module) -> bool:
    """Whether a transformer is timm's plain one, with a CLS token and all patches."""
    plain = type(vit) is VisionTransformer and type(vit.patch_drop) is nn.Identity
    return plain and vit.cls_token is not None


def _is_plain_block(block: nn.Module) -> bool:
    return type(block) is Block and is_plain(block.attn)


def _run(checkpointed: bool, function: Callable, *arguments: object) -> torch.Tensor:
    """Call `function`; its activations are computed again in the backward pass where `checkpointed`."""
    if checkpointed and torch.is_grad_enabled():
        return checkpoint(function, *arguments, use_reentrant=False)
    return function(*arguments)


def cls_after(
    blocks: Sequence[nn.Module], *batches: torch.Tensor, checkpointed: bool = False
) -> torch.Tensor:
    """Give the CLS tokens that leave the last of some blocks.

    Parameters
    ----------
    blocks
        Blocks of a transformer of timm.
    batches : float tensors, shape (N, tokens, width)
        Tokens of views, the CLS token first; one batch for each number of tokens.
    checkpointed
        Whether the backward pass computes activations again instead of keeping them.

    Returns
    -------
    tensor, shape (views of all batches, width)
    """
    if not all(map(_is_plain_block, blocks)):
        ends = []
        for tokens in batches:
            for block in blocks:
                tokens = _run(checkpointed, block, tokens)
            ends.append(tokens[:, 0])
        return torch.cat(ends)
    shapes = [(len(tokens), tokens.shape[1]) for tokens in batches]
    tokens = torch.cat([each.flatten(0, 1) for each in batches])
    for block in blocks[:-1]:
        tokens = _run(checkpointed, _block, block, tokens, shapes)
    return _last_block(blocks[-1], tokens, shapes)


def _embed(vit: VisionTransformer, views: torch.Tensor) -> torch.Tensor:
    """Embed the patches of views (N, channels, size, size)."""
    layer = vit.patch_embed
    if type(layer) is not PatchEmbed or not vit.dynamic_img_size or layer.dynamic_img_pad:
        return layer(views)
    height, width = layer.patch_size
    pixels = views.unfold(2, height, height).unfold(3, width, width).permute(0, 2, 3, 1, 4, 5)
    return layer.norm(F.linear(pixels.flatten(3), layer.proj.weight.flatten(1), layer.proj.bias))


def _block(block: Block, tokens: torch.Tensor, shapes: list[Shape]) -> torch.Tensor:
    """Apply a block to tokens (tokens of all views, width)."""
    layer = block.attn
    mixed = [
        attend(part, layer.num_heads, layer.scale).flatten(0, 1)
        for part in _by_view(layer.qkv(block.norm1(tokens)), shapes)
    ]
    change = layer.proj_drop(layer.proj(torch.cat(mixed)))
    tokens = tokens + _kept(block.drop_path1, block.ls1(change), shapes)
    change = block.mlp(block.norm2(tokens))
    return tokens + _kept(block.drop_path2, block.ls2(change), shapes)


def _last_block(block: Block, tokens: torch.Tensor, shapes: list[Shape]) -> torch.Tensor:
    """Apply a block to tokens (tokens of all views, width) and give the CLS tokens (views, width)."""
    layer, heads = block.attn, block.attn.num_heads
    views, counts = _by_view(block.norm1(tokens), shapes), [count for count, _ in shapes]
    to_query, to_key, to_value = layer.qkv.weight.chunk(3)
    query_bias, _, value_bias = (
        layer.qkv.bias.chunk(3) if layer.qkv.bias is not None else [None] * 3
    )
    query = F.linear(torch.cat([view[:, 0] for view in views]), to_query, query_bias) * layer.scale
    # (heads, views, width): its product with a token is that of the query with the token's key.
    query = query.unflatten(1, (heads, -1)).transpose(0, 1) @ to_key.unflatten(0, (heads, -1))
    mixed = [
        (view @ asked.transpose(1, 2)).softmax(dim=1).transpose(1, 2) @ view
        for view, asked in zip(views, query.transpose(0, 1).split(counts), strict=True)
    ]
    value = torch.cat(mixed).transpose(0, 1) @ to_value.unflatten(0, (heads, -1)).transpose(1, 2)
    value = value.transpose(0, 1).flatten(1)
    value = value if value_bias is None else value + value_bias
    cls, alone = torch.cat([view[:, 0] for view in _by_view(tokens, shapes)]), [(sum(counts), 1)]
    change = layer.proj_drop(layer.proj(value))
    cls = cls + _kept(block.drop_path1, block.ls1(change), alone)
    return cls + _kept(block.drop_path2, block.ls2(block.mlp(block.norm2(cls))), alone)


def _by_view(tokens: torch.Tensor, shapes: list[Shape]) -> list[torch.Tensor]:
    """Split tokens (tokens of all views, width) into batches (N, tokens, width)."""
    parts = tokens.split([count * length for count, length in shapes])
    return [part.unflatten(0, shape) for part, shape in zip(parts, shapes, strict=True)]


def _kept(drop: nn.Module, change: torch.Tensor, shapes: list[Shape]) -> torch.Tensor:
    """Drop `change` (tokens of all views, width) for whole views, as stochastic depth does."""
    if not isinstance(drop, DropPath) or not drop.training:
        return change
    counts, lengths = zip(*shapes, strict=True)
    factors = drop(change.new_ones(sum(counts), 1)).split(counts)
    spread = [
        part.repeat_interleave(length, dim=0) for part, length in zip(factors, lengths, strict=True)
    ]
    return change * torch.cat(spread)
