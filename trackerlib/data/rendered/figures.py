"""The cast: people, vehicles, animals, faces, toys and signs, each with endless shapes and clothes."""

from copy import copy
from dataclasses import replace

import numpy as np

from . import textures as T
from .sprites import Bone, Part, Skins, Sprite, limb, oval, shard, slab


class Wardrobe:
    """Draws the materials of one object. `palette`: colours to choose from (camouflage); otherwise any."""

    def __init__(self, rng: np.random.Generator, split: str, skins: int = 1, palette=None):
        self.rng, self.split, self.count, self.palette = rng, split, skins, palette

    def colour(self) -> np.ndarray:
        return T.any_colour(self.rng) if self.palette is None else self.rng.choice(self.palette)

    def __call__(self, colour=None, contrast=(0.05, 0.35), kinds=T.ANY, scale=(0.7, 3.0)) -> Skins:
        """Materials of one surface, one a skin: of `colour`, or of any (the second skin's is then another)."""
        first = self.colour() if colour is None else np.asarray(colour, np.float32)
        other = 0.45 * first + 0.55 * (self.colour() if colour is None else T.jitter(self.rng, first, 0.3))
        colours = (first, other)[: self.count]
        return tuple(T.Material(self.rng, self.split, c, contrast, kinds, scale) for c in colours)

    def dark(self) -> Skins:
        return self((28, 28, 32), (0.05, 0.3), T.NOISES)

    def glass(self) -> Skins:
        return self(self.rng.choice([[44, 52, 60], [96, 112, 124], [150, 166, 178]]), (0.1, 0.35), T.NOISES, (0.3, 1))

    def hair(self) -> Skins:
        return self(self.rng.choice([[28, 22, 20], [70, 48, 32], [140, 104, 60], [120, 116, 112]]), (0.1, 0.3), [2])

    def flesh(self) -> Skins:
        tone = self.rng.uniform(0, 1) ** 1.3
        return self(np.array([224, 178, 150]) * (1 - tone) + np.array([84, 54, 40]) * tone, (0.02, 0.06), T.NOISES)


def person(rng: np.random.Generator, wear: Wardrobe) -> Sprite:
    """Somebody who walks, runs or stands, seen from the side or the front."""
    wide, stride = rng.uniform(0.85, 1.35), rng.choice([0.08, 0.35, 0.55, 0.75])
    skin, top, bottom, shoe = wear.flesh(), wear(), wear(), wear.dark()
    sleeve, leg = (top if rng.random() < 0.6 else skin), (bottom if rng.random() < 0.75 else skin)
    hip, neck, waist = 0.02, -0.34, 0.05 * wide
    arm, bend = stride * rng.uniform(0.6, 1.1), rng.uniform(-1.2, -0.1)
    bones = [
        Bone((0, hip), stride), Bone((0, 0.25), stride * 0.7, 0.2, stride * 0.5, 0),
        Bone((0, hip), stride, 0.5), Bone((0, 0.25), stride * 0.7, 0.7, stride * 0.5, 2),
        Bone((0, neck + 0.06), arm, 0.5), Bone((0, -0.1), arm * 0.3, 0.5, bend, 4),
        Bone((0, neck + 0.06), arm), Bone((0, -0.1), arm * 0.3, 0, bend, 6),
    ]  # fmt: skip
    spread = rng.uniform(0.02, 0.11) * (1.5 if stride < 0.2 else 1)
    side = (0.07 * wide + 0.02) if spread > 0.08 else spread * 0.4

    def leg_parts(bone, z, x):
        yield Part(limb(x, hip, x, 0.25, 0.12 * wide, 0.09 * wide), bottom, bone, z)
        yield Part(limb(x, 0.25, x, 0.45, 0.085 * wide, 0.06 * wide), leg, bone + 1, z)
        yield Part(slab(x - 0.03, 0.44, x + 0.085, 0.5, 0.6), shoe, bone + 1, z)

    def arm_parts(bone, z, x):
        lower = sleeve if rng.random() < 0.5 else skin
        yield Part(limb(x, neck + 0.06, x, -0.1, 0.08 * wide, 0.065 * wide), sleeve, bone, z)
        yield Part(limb(x, -0.1, x, 0.06, 0.06 * wide, 0.045 * wide), lower, bone + 1, z)
        yield Part(oval(x, 0.08, 0.03, 0.035), skin, bone + 1, z)

    parts = [*arm_parts(6, -0.12, -side), *leg_parts(2, -0.07, -spread * 0.5), *leg_parts(0, 0.07, spread * 0.5)]
    if rng.random() < 0.3:  # a rucksack
        parts.append(Part(slab(-0.16 * wide, neck + 0.04, -0.02, -0.06, 0.5), wear(), z=-0.1))
    torso = np.array([[-0.07, neck], [0.07, neck], [0.105, neck + 0.08], [0.085, -0.1], [waist + 0.035, hip + 0.05],
                      [-waist - 0.035, hip + 0.05], [-0.085, -0.1], [-0.105, neck + 0.08]])  # fmt: skip
    parts.append(Part(torso * [wide, 1], top))
    if rng.random() < 0.2:  # a skirt
        parts.append(Part(np.array([[-0.07, -0.06], [0.07, -0.06], [0.14, 0.2], [-0.14, 0.2]]) * [wide, 1], bottom))
    hair = np.concatenate([oval(-0.01, -0.445, 0.066, 0.062)[10:], oval(-0.02, -0.43, 0.05, 0.02)[:1]])
    throat, head = limb(0, neck - 0.06, 0, neck + 0.02, 0.055, 0.065), oval(0, -0.425, 0.06, 0.075)
    parts += [Part(throat, skin), Part(head, skin, z=0.01), Part(hair, wear.hair()), *arm_parts(4, 0.12, side)]
    return Sprite("person", parts, bones)


def car(rng: np.random.Generator, wear: Wardrobe) -> Sprite:
    """A car, van, lorry or bus from the side, from behind or from above."""
    paint, glass, dark = wear(contrast=(0.01, 0.08)), wear.glass(), wear.dark()
    view = rng.choice(["side", "side", "rear", "rear", "above"])
    lamp = wear(rng.choice([[190, 30, 26], [236, 230, 200]]), (0.05, 0.2))
    if view == "above":
        long, trim = rng.uniform(1.6, 2.6) / 2, wear(contrast=(0.01, 0.1))
        parts = [
            Part(slab(-long, -0.5, long, 0.5, rng.uniform(0.3, 0.5)), paint, round=0.25),
            Part(slab(-long * 0.55, -0.42, long * 0.35, 0.42, 0.4), glass, z=0.1),
            Part(slab(-long * 0.4, -0.38, long * 0.12, 0.38, 0.4), paint if rng.random() < 0.8 else trim, z=0.12),
        ]
        parts += [Part(oval(s * long * 0.93, y, 0.06, 0.1), lamp) for s in (-1, 1) for y in (-0.35, 0.35)]
    elif view == "rear":
        w, roof = rng.uniform(0.5, 0.75), rng.uniform(0.3, 0.46)
        cabin = np.array([[-w * roof / 0.46, -0.5], [w * roof / 0.46, -0.5], [w * 0.9, -0.08], [-w * 0.9, -0.08]])
        plate = wear((225, 222, 205), (0.1, 0.25), [9])
        bumper = dark if rng.random() < 0.5 else paint
        parts = [
            *(Part(slab(s * w * 0.72 - 0.12, 0.1, s * w * 0.72 + 0.12, 0.5, 0.4), dark, z=-0.1) for s in (-1, 1)),
            Part(cabin, paint, z=-0.05, round=0.15), Part(cabin * [0.86, 0.8] + [0, -0.03], glass, z=-0.02, round=0.1),
            Part(slab(-w, -0.14, w, 0.36, 0.35), paint, z=0.1, round=0.25),
            Part(slab(-w * 0.97, 0.2, w * 0.97, 0.36, 0.4), bumper, z=0.14),
            Part(slab(-0.16, 0.06, 0.16, 0.17, 0.2), plate, z=0.14, round=0.05),
        ]  # fmt: skip
        size = rng.uniform(0.06, 0.12)
        parts += [Part(slab(s * w * 0.8 - size, -0.05, s * w * 0.8 + size, 0.09, 0.5), lamp, z=0.12) for s in (-1, 1)]
    else:
        w, nose, deck = rng.uniform(0.95, 1.5), rng.uniform(0.1, 0.45), rng.uniform(0.0, 0.3)
        body = [[-w, -0.02], [w * (1 - nose * 0.4), -0.06], [w, 0.04], [w, 0.34], [-w, 0.34]]
        sill, roof = (-w * (1 - deck), w * (0.95 - nose)), (-w * (0.8 - deck), w * (0.5 - nose))
        cabin = np.array([[sill[0], -0.04], [roof[0], -0.48], [roof[1], -0.5], [sill[1], -0.04]])
        parts = [Part(np.array(body), paint, round=0.2), Part(cabin, paint, round=0.1)]
        middle = float(cabin[1:3, 0].mean())
        for x0, x1, lean in ((sill[0] + 0.12, middle - 0.04, -0.12), (middle + 0.04, sill[1] - 0.16, 0.12)):
            top = [x0 - min(lean, 0), -0.42], [x1 - max(lean, 0), -0.42]
            parts.append(Part(np.array([*top, [x1, -0.07], [x0, -0.07]]), glass))
        parts += [
            Part(slab(-w, 0.24, w, 0.36, 0.3), dark if rng.random() < 0.5 else paint),
            Part(slab(w - 0.12, 0.02, w, 0.12, 0.5), lamp),
            Part(slab(-w, 0.02, -w + 0.1, 0.12, 0.5), lamp),
        ]
        hub = wear((150, 152, 156), (0.1, 0.4), [3, 5])
        wheels = [(x, r, made) for x in (-w * 0.6, w * 0.62) for r, made in ((0.19, dark), (0.11, hub))]
        parts += [Part(oval(x, 0.31, r, r), made) for x, r, made in wheels]
    return Sprite("car", parts)


def rider(rng: np.random.Generator, wear: Wardrobe) -> Sprite:
    """A cyclist or motorcyclist from the side."""
    body, skin, dark, frame = wear(), wear.flesh(), wear.dark(), wear()
    wheel, hip, knee = rng.uniform(0.17, 0.24), (-0.06, 0.02), (0.12, 0.1)
    bones = [Bone(hip, 0.45), Bone(knee, 0.45, 0.3, 0.3, 0), Bone(hip, 0.45, 0.5), Bone(knee, 0.45, 0.8, 0.3, 2)]
    parts = []
    for x in (-0.27, 0.27):
        parts.append(Part(oval(x, 0.5 - wheel, wheel, wheel), dark))
        parts.append(Part(oval(x, 0.5 - wheel, wheel * 0.55, wheel * 0.55), wear()))
    for bone in (2, 0):
        parts.append(Part(limb(*hip, *knee, 0.1, 0.08), wear() if bone else body, bone))
        parts.append(Part(limb(*knee, 0.05, 0.33, 0.07, 0.05), skin, bone + 1))
    parts += [
        Part(limb(-0.27, 0.3, 0.22, 0.08, 0.06, 0.06), frame), Part(limb(0.27, 0.3, 0.2, -0.04, 0.05, 0.05), frame),
        Part(limb(-0.07, 0.0, 0.05, -0.26, 0.15, 0.16), body), Part(limb(0.05, -0.24, 0.22, -0.03, 0.07, 0.05), body),
        Part(oval(0.1, -0.4, 0.07, 0.085), skin), Part(oval(0.09, -0.43, 0.085, 0.07), wear()),
    ]  # fmt: skip
    return Sprite("rider", parts, bones)


def animal(rng: np.random.Generator, wear: Wardrobe) -> Sprite:
    """Something on four legs."""
    furs = [[120, 90, 60], [60, 50, 44], [200, 190, 176], [150, 110, 70]]
    coat = wear(rng.choice(furs) if rng.random() < 0.8 else None)
    patch, swing, w = wear(), rng.uniform(0.2, 0.6), rng.uniform(0.4, 0.62)
    feet = (-w, 0), (-w, 0.5), (w, 0.45), (w, 0.95)  # where, and when in the stride
    bones = [Bone((x, 0.12), swing, lag) for x, lag in feet]
    bones += [Bone((w, -0.1), 0.15, 0.2, rng.uniform(-0.5, 0.3)), Bone((-w, -0.08), 0.5, 0, rng.uniform(-0.6, 0.6))]
    legs = [Part(limb(x, 0.08, x, 0.46, 0.16, 0.09), coat, i, 0.1 if i % 2 else -0.1) for i, (x, _) in enumerate(feet)]
    neck = rng.uniform(0.1, 0.3)
    parts = [
        *legs[::2], Part(limb(-w, -0.08, -w - 0.28, -0.2, 0.08, 0.04), coat, 5),
        Part(limb(-w + 0.05, 0, w, -0.02, 0.34, 0.38), coat), *legs[1::2],
        Part(oval(rng.uniform(-0.3, 0.3), -0.06, 0.17, 0.11), patch, z=0.1),
        Part(limb(w, -0.08, w + 0.12, -0.15 - neck, 0.26, 0.18), coat, 4),
        Part(limb(w + 0.12, -0.18 - neck, w + 0.32, -0.12 - neck, 0.22, 0.12), coat, 4),
        Part(limb(w + 0.06, -0.26 - neck, w + 0.0, -0.34 - neck, 0.1, 0.05), patch, 4),
    ]  # fmt: skip
    return Sprite("animal", parts, bones)


def bird(rng: np.random.Generator, wear: Wardrobe) -> Sprite:
    """A bird in flight or a fish: a body that undulates, with wings or fins that beat."""
    body, wing, w, beat = wear(), wear(), rng.uniform(0.5, 0.9), rng.uniform(0.3, 0.9)
    bones = [Bone((0, 0), beat), Bone((0, 0), beat, 0.05), Bone((-w * 0.8, 0), 0.3, 0.3)]
    fin = np.array([[-0.16, 0], [0.16, 0], [0.02, -rng.uniform(0.35, 0.6)], [-0.2, -rng.uniform(0.3, 0.5)]])
    tail = np.array([[-0.7 * w, -0.03], [-1.25 * w, -0.2], [-1.15 * w, 0.18], [-0.7 * w, 0.05]])
    parts = [
        Part(fin, wing, 1, -0.15), Part(tail, wing, 2),
        Part(limb(-w * 0.75, 0, w * 0.5, 0, 0.14, 0.32), body), Part(oval(w * 0.6, -0.06, 0.16, 0.14), body),
        Part(fin * [1.1, rng.choice([-1, 1])] + [0.04, 0.02], wing, 0, 0.15),
        Part(oval(w * 0.68, -0.08, 0.03, 0.03), wear.dark()),
    ]  # fmt: skip
    return Sprite("bird", parts, bones, wave=(rng.uniform(0, 0.08), -0.6))


def ball(rng: np.random.Generator, wear: Wardrobe) -> Sprite:
    """A ball, balloon, wheel or lamp with patches on it."""
    squash = rng.uniform(0.8, 1.25)
    parts = [Part(oval(0, 0, 0.5 * squash, 0.5, 40), wear(), round=0.5)]
    for _ in range(rng.integers(0, 6)):
        a, r, size, flat = rng.uniform([0, 0, 0.07, 0.6], [2 * np.pi, 0.26, 0.2, 1])
        patch = oval(r * np.cos(a) * squash, r * np.sin(a), size, size * flat, int(rng.integers(4, 20)))
        parts.append(Part(patch, wear(), z=0.3))
    return Sprite("ball", parts)


def face(rng: np.random.Generator, wear: Wardrobe) -> Sprite:
    """A head with hair and features that move against it as it turns, with or without shoulders."""
    skin, hair, dark = wear.flesh(), wear.hair(), wear.dark()
    lips = wear(skin[0].colour * [0.85, 0.55, 0.55], (0.02, 0.1))
    w = rng.uniform(0.32, 0.42)
    parts = [Part(oval(0, -0.08, w * 1.12, 0.42 + rng.uniform(0, 0.15)), hair, z=-0.15)]
    if rng.random() < 0.5:
        parts += [Part(limb(0, 0.3, 0, 0.5, 0.3, 0.34), skin, z=-0.1), Part(oval(0, 0.62, 0.75, 0.24), wear(), z=-0.05)]
    parts += [Part(oval(0, 0.03, w, 0.45, 32), skin), Part(oval(0, 0.02, 0.05, 0.13), skin, z=0.34, round=0.6)]
    eyes = (-w * 0.45, w * 0.45)
    for x in eyes:
        parts += [
            Part(oval(x, -0.06, 0.075, 0.04), wear((225, 220, 214), (0, 0.05)), z=0.24, round=0.1),
            Part(oval(x, -0.06, 0.036, 0.036), dark, z=0.26),
            Part(slab(x - 0.1, -0.16, x + 0.1, -0.125, 0.7), hair, z=0.24),
        ]
    parts.append(Part(oval(0, 0.27, 0.13, 0.035 + rng.uniform(0, 0.03)), lips, z=0.27, round=0.1))
    fringe = oval(0, -0.3, w * 1.05, 0.17 + rng.uniform(0, 0.1), 24)
    parts.append(Part(np.concatenate([fringe[12:], fringe[:1]]), hair, z=0.1))
    if rng.random() < 0.3:
        parts += [Part(slab(x - 0.12, -0.12, x + 0.12, 0.02, 0.5), wear.glass(), z=0.28) for x in eyes]
    return Sprite("face", parts)


def toy(rng: np.random.Generator, wear: Wardrobe) -> Sprite:
    """A thing put together of a few textured shapes: a toy, a tool, a boat, a drone, a bag."""
    parts, count, aspect = [], int(rng.integers(1, 7)), np.exp(rng.uniform(-0.9, 0.9))
    for i in range(count):
        size = rng.uniform(0.12, 0.3) if i else 0.42
        (x, y), shape = rng.uniform(-0.32, 0.32, 2) * (i > 0), rng.integers(3)
        if shape == 0:
            points = oval(x, y, size, size * rng.uniform(0.5, 1.1))
        elif shape == 1:
            up, down = size * rng.uniform(0.4, 1, 2)
            points = slab(x - size, y - up, x + size, y + down, rng.uniform(0.05, 0.6))
        else:
            points = (shard(rng, 4, 10) * size + [x, y]) * rng.uniform(0.8, 1.2)
        points = points * [aspect**0.5, aspect**-0.5]
        parts.append(Part(points, wear(), z=rng.uniform(-0.2, 0.25), round=rng.uniform(0.1, 0.5)))
    wave = rng.choice([0, rng.uniform(0.02, 0.1)]), rng.choice([-1, 1]) * rng.uniform(0.3, 1)
    return Sprite("toy", parts, wave=wave)


def sign(rng: np.random.Generator, wear: Wardrobe) -> Sprite:
    """A flat thing with something printed on it: a book, box, board, plate or flag."""
    w = np.exp(rng.uniform(-0.7, 0.7)) / 2
    board = wear(contrast=(0.15, 0.5), kinds=[4, 5, 7, 8, 9], scale=(0.5, 2))
    parts = [Part(slab(-w, -0.5, w, 0.5, rng.choice([0.03, 0.03, 0.2])), wear(), round=0.1)]
    m = rng.uniform(0.05, 0.14)
    parts.append(Part(slab(-w + m, -0.5 + m, w - m, rng.choice([0.5 - m, 0.1]), 0.05), board, round=0.05, z=0.02))
    return Sprite("sign", parts, wave=(rng.choice([0, 0, 0.06]), -0.7))


BUILDERS = {f.__name__: f for f in (person, car, rider, animal, bird, ball, face, toy, sign)}
SOLID = ("person", "animal", "face", "ball")


def build(kind: str, split: str, shape: int, paint: int, skins: int = 1, palette=None, likeness: float = 0.0) -> Sprite:
    """A sprite with the middle of its poses at the origin. Equal seeds give equal sprites; `likeness > 0` jitters the
    colours of the copy by so much."""
    wear = Wardrobe(T.stream(split, paint, 22), split, skins, palette)
    sprite = BUILDERS[kind](T.stream(split, shape, 21), wear)
    for part in sprite.parts:
        part.points = part.points - sprite.middle
        if likeness:
            part.skins = tuple(copy(m) for m in part.skins)
            for material in part.skins:
                material.colour = T.jitter(wear.rng, material.colour, likeness)
    bones = [replace(b, pivot=b.pivot - sprite.middle) for b in sprite.bones]
    return replace(sprite, bones=bones, solid=kind in SOLID)
