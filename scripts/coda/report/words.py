"""The words of the report, each explained in a clause to who has not read the paper."""

from collections.abc import Iterable

from coda.methods import ADAPTATIONS, ALIGNMENTS, COMPOSED, CONTROLS
from coda.methods import OWN as METHODS_OWN

HOME = "at home"
# What each part of a method does, in the order in which it is done.
HARMONISED = "images of the other lab are filtered to the sharpness and noise of the training lab's"
ADAPTATION = {
    "oda": "the feature extractor is trained on, by itself and without labels, on the other lab's images",
    "coda": "the feature extractor is trained on, without labels, to see replicates of a compound on different plates "
    "alike",
    "coda_consensus": "the feature extractor is trained on, without labels, to see in each image what the classifier "
    "finds in all wells of its compound",
    "coda_batch": "as CODA, with replicates from other batches only",
    "coda_labs": "as CODA, with replicates from the training lab too",
    "coda_replay": "as CODA, with images of the training lab in between",
}
OWN = {
    "tent": "its norms are trained on to be surer of the other lab's images, without labels",
    "adabn": "its batch norms take the statistics of each plate",
    "consensus": "its features are trained on, without labels, to see in each image what the network finds in all "
    "wells of its compound with the batch norms of each plate",
}
ALIGNED = {
    "all": "features of the other lab get the mean and spread that they have in the training lab",
    "means": "features of the other lab get the mean that they have in the training lab",
    "dmso": "features of the other lab get the mean and spread that they have in the training lab, by the negative "
    "controls (DMSO)",
}


def explained(name: str) -> str:
    """Say what a method does, a clause for each of its parts; empty where it has none that needs it."""
    made = COMPOSED[name]
    clauses = [
        HARMONISED if made.harmonised else "",
        "a network is trained end to end on the training lab's labels"
        if made.head == "supervised"
        else "",
        ADAPTATION.get(made.adaptation, "") or OWN.get(made.adaptation, ""),
        ALIGNED[made.alignment] if made.alignment else "",
    ]
    return "; ".join(filter(None, clauses))


def glossary(methods: Iterable[str]) -> list[tuple[str, str]]:
    """Explain the words that a report on these methods uses.

    Returns
    -------
    list of (word, explanation)
    """
    made = [COMPOSED[name] for name in methods if name in COMPOSED]
    adaptations = {each.adaptation for each in made}
    alignments = {each.alignment for each in made} - {None}
    words = [
        (HOME, "on a held-out plate of the training lab; papers call it in domain"),
        ("held-out plate", "a plate that nothing is trained on or adapted to"),
        ("adapted plates", "other labs' plates whose images, not their labels, methods were adapted to"),
        ("unadapted", "the training lab's networks on another lab's images, as they are"),
    ]  # fmt: skip
    if any(each.harmonised for each in made):
        words.append(("harmonised", HARMONISED))
    words += [(label, ADAPTATION[key]) for key, label in ADAPTATIONS.items() if key in adaptations]
    if any(each.head == "supervised" for each in made):
        words.append(("supervised", "a network trained end to end on the training lab's labels"))
    words += [(label, OWN[key]) for key, label in METHODS_OWN.items() if key in adaptations]
    words += [(label, ALIGNED[key]) for key, label in ALIGNMENTS.items() if key in alignments]
    if any(each.head in CONTROLS for each in made):
        words.append(("control", "a classifier that does not see the shape of cells: no method to use"))  # fmt: skip
    words.append(("gap closed", "how far a method leads from unadapted, 0 %, to at home, 100 %"))
    return words
