"""What `segbench init` says when it is done."""

from segbench.onboarding.init import Initialised


def summarise(made: Initialised) -> str:
    """What was found, changed and is to be decided, in a few lines."""
    guess = made.guess
    fields, size = guess.fields, guess.size
    lines = [
        f"{guess.num_pairs} images with masks: {fields['images']} with {fields['masks']}, "
        f"classes {', '.join(fields['classes'])}; {guess.read} of them read as a check",
        f"the section dataset of params.yaml describes them; {len(guess.asked)} questions stand at "
        "its top",
    ]
    lines += [f"  {key}: {text}" for key, text in guess.asked]
    if made.changes:
        lines.append(f"also changed: {'; '.join(made.changes)}")
    if size.smaller:
        lines.append(f"{size.width}x{size.height} pixels, since {size.smaller}")
    if made.backup:
        lines.append(f"the former file is {made.backup}")
    lines.append(
        "next: 'segbench plan' says how long it takes, 'segbench repro' runs it. The recipe is "
        "that of a demonstration: for real results raise train.num_epochs to 30 or so and "
        "augment.height and width to 256 or more, and name candidates with pretrained weights"
    )
    return "\n".join(lines)
