"""Minimal pairs of grammar: two beginnings, two continuations, each right after one beginning only."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

Pair = tuple[tuple[str, str], tuple[str, str]]
"""Two (beginning, continuation)."""

NOUNS = tuple(
    one.split("/")
    for one in [
        "key/keys",
        "book/books",
        "chair/chairs",
        "car/cars",
        "picture/pictures",
        "lamp/lamps",
        "bottle/bottles",
        "flower/flowers",
        "box/boxes",
        "plate/plates",
        "shirt/shirts",
        "window/windows",
        "letter/letters",
        "house/houses",
        "boat/boats",
        "bag/bags",
        "knife/knives",
        "clock/clocks",
        "song/songs",
        "shelf/shelves",
    ]
)
PEOPLE = tuple(
    one.split("/")
    for one in [
        "boy/boys",
        "girl/girls",
        "teacher/teachers",
        "doctor/doctors",
        "farmer/farmers",
        "child/children",
        "woman/women",
        "man/men",
        "student/students",
        "nurse/nurses",
        "pilot/pilots",
        "waiter/waiters",
    ]
)
MEN = ["king", "man", "boy", "father", "brother", "uncle", "grandfather", "prince", "son", "husband", "actor", "waiter"]
WOMEN = [
    "queen",
    "woman",
    "girl",
    "mother",
    "sister",
    "aunt",
    "grandmother",
    "princess",
    "daughter",
    "wife",
    "actress",
    "waitress",
]
ADJECTIVES = ["old", "new", "small", "big", "heavy", "cheap", "clean", "broken", "dirty", "beautiful"]
PLACES = ("near", "behind", "next to", "in front of", "under")
VERBS = tuple(
    one.split("/")
    for one in [
        "eat/ate/eaten",
        "go/went/gone",
        "see/saw/seen",
        "write/wrote/written",
        "take/took/taken",
        "give/gave/given",
        "speak/spoke/spoken",
        "break/broke/broken",
        "drive/drove/driven",
        "fall/fell/fallen",
        "begin/began/begun",
        "sing/sang/sung",
        "drink/drank/drunk",
        "swim/swam/swum",
        "fly/flew/flown",
        "grow/grew/grown",
        "know/knew/known",
        "choose/chose/chosen",
        "steal/stole/stolen",
    ]
)
PROGRESSIVES = tuple(
    one.split("/")
    for one in [
        "sing/singing",
        "work/working",
        "sleep/sleeping",
        "dance/dancing",
        "swim/swimming",
        "read/reading",
        "walk/walking",
        "cook/cooking",
        "play/playing",
        "write/writing",
        "wait/waiting",
        "talk/talking",
    ]
)
COUNTED = [
    "books",
    "apples",
    "children",
    "friends",
    "days",
    "cars",
    "chairs",
    "questions",
    "eggs",
    "coins",
    "letters",
    "bottles",
]
MASSES = ["water", "money", "time", "milk", "sugar", "rice", "sand", "bread", "work", "furniture", "rain", "salt"]
VOWELS = [
    "apple",
    "egg",
    "orange",
    "umbrella",
    "island",
    "onion",
    "engine",
    "insect",
    "oven",
    "answer",
    "elephant",
    "idea",
]
CONSONANTS = [
    "banana",
    "car",
    "book",
    "house",
    "dog",
    "table",
    "chair",
    "window",
    "letter",
    "pencil",
    "ticket",
    "shirt",
]
TALL = ["tall", "old", "strong", "fast", "rich", "young", "small", "clever"]
RELATIVES = ["brother", "sister", "friend", "mother", "father", "teacher", "neighbour", "cousin"]
SUBJECTS = ["She", "He", "Anna", "Peter", "Maria", "Tom"]
HURT = ["hurt", "saw", "blamed", "taught", "helped", "introduced", "washed", "praised"]


def _agreement(draw: random.Random) -> Pair:
    (one, many), adjective = draw.choice(NOUNS), draw.choice(ADJECTIVES)
    return (f"The {one}", f" is {adjective}."), (f"The {many}", f" are {adjective}.")


def _agreement_attractor(draw: random.Random) -> Pair:
    """The noun beside the verb has the other number than the subject."""
    (one, many), (other, others) = draw.sample(NOUNS, 2)
    place, adjective = draw.choice(PLACES), draw.choice(ADJECTIVES)
    return (f"The {one} {place} the {others}", f" is {adjective}."), (
        f"The {many} {place} the {other}",
        f" are {adjective}.",
    )


def _agreement_relative(draw: random.Random) -> Pair:
    (one, many), (person, people) = draw.choice(NOUNS), draw.choice(PEOPLE)
    adjective, verb = draw.choice(ADJECTIVES), draw.choice(["like", "want", "need", "know"])
    return (f"The {one} that the {people} {verb}", f" is {adjective}."), (
        f"The {many} that the {person} {verb}s",
        f" are {adjective}.",
    )


def _determiner(draw: random.Random) -> Pair:
    (one, many), subject = draw.choice(NOUNS), draw.choice(SUBJECTS)
    singular, plural = draw.choice([("this", "these"), ("that", "those")])
    return (f"{subject} bought {singular}", f" {one}."), (f"{subject} bought {plural}", f" {many}.")


def _reflexive_gender(draw: random.Random) -> Pair:
    place, verb = draw.randrange(len(MEN)), draw.choice(HURT)
    return (f"The {MEN[place]} {verb}", " himself."), (f"The {WOMEN[place]} {verb}", " herself.")


def _reflexive_number(draw: random.Random) -> Pair:
    man, verb = (
        draw.choice([["boy", "boys"], ["man", "men"], ["king", "kings"], ["brother", "brothers"]]),
        draw.choice(HURT),
    )
    adverb = draw.choice(["yesterday", "again", "at last", "once more"])
    return (f"The {man[0]} {verb}", f" himself {adverb}."), (f"The {man[1]} {verb}", f" themselves {adverb}.")


def _quantity(draw: random.Random) -> Pair:
    end = draw.choice(["there", "left", "here"])
    counted, mass = f" {draw.choice(COUNTED)} are {end}?", f" {draw.choice(MASSES)} is {end}?"
    return ("How many", counted), ("How much", mass)


def _participle(draw: random.Random) -> Pair:
    base, _, participle = draw.choice(VERBS)
    subject, end = draw.choice(SUBJECTS), draw.choice([".", " today.", " again."])
    return (f"{subject} has already", f" {participle}{end}"), (f"{subject} will soon", f" {base}{end}")


def _past(draw: random.Random) -> Pair:
    base, past, _ = draw.choice(VERBS)
    person, end = draw.choice(PEOPLE)[1], draw.choice([".", " again.", " once more."])
    return (f"Yesterday the {person}", f" {past}{end}"), (f"Tomorrow the {person} will", f" {base}{end}")


def _progressive(draw: random.Random) -> Pair:
    (base, progressive), subject = draw.choice(PROGRESSIVES), draw.choice(SUBJECTS)
    end = draw.choice([".", " now.", " today."])
    return (f"{subject} is", f" {progressive}{end}"), (f"{subject} can", f" {base}{end}")


def _correlative(draw: random.Random) -> Pair:
    (first, _), (second, _) = draw.sample(NOUNS, 2)
    return (f"Either the {first}", f" or the {second} fell."), (
        f"Neither the {first}",
        f" nor the {second} fell.",
    )


def _comparison(draw: random.Random) -> Pair:
    subject, adjective, relative = draw.choice(SUBJECTS), draw.choice(TALL), draw.choice(RELATIVES)
    owner = "his" if subject in ("He", "Peter", "Tom") else "her"
    more = "more clever" if adjective == "clever" else adjective + ("r" if adjective.endswith("e") else "er")
    return (f"{subject} is {more}", f" than {owner} {relative}."), (
        f"{subject} is as {adjective}",
        f" as {owner} {relative}.",
    )


def _article(draw: random.Random) -> Pair:
    subject, verb = draw.choice(SUBJECTS), draw.choice(["saw", "wants", "has", "needs"])
    return (f"{subject} {verb} a", f" {draw.choice(CONSONANTS)}."), (f"{subject} {verb} an", f" {draw.choice(VOWELS)}.")


PHENOMENA: Mapping[str, Callable[[random.Random], Pair]] = {
    "agreement": _agreement,
    "agreement_attractor": _agreement_attractor,
    "agreement_relative": _agreement_relative,
    "determiner": _determiner,
    "reflexive_gender": _reflexive_gender,
    "reflexive_number": _reflexive_number,
    "quantity": _quantity,
    "participle": _participle,
    "past": _past,
    "progressive": _progressive,
    "correlative": _correlative,
    "comparison": _comparison,
    "article": _article,
}
"""Name -> template. Source: constructed; the kinds are among BLiMP's (arXiv 1912.00582), the sentences are ours."""
