"""Everyday facts as relations: beginnings and the one word that completes each."""

from __future__ import annotations

from collections.abc import Mapping


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    """ "a:b c:d" -> (("a", "b"), ("c", "d")), with _ for a space."""
    found = (one.split(":") for one in text.split())
    return tuple((first.replace("_", " "), second.replace("_", " ")) for first, second in found)


RELATIONS: Mapping[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "capital": (
        "The capital of {} is",
        _pairs(
            "France:Paris Germany:Berlin Italy:Rome Spain:Madrid England:London Russia:Moscow Japan:Tokyo Egypt:Cairo "
            "Greece:Athens Portugal:Lisbon Austria:Vienna Poland:Warsaw Hungary:Budapest Norway:Oslo Sweden:Stockholm "
            "Finland:Helsinki Ireland:Dublin Cuba:Havana Peru:Lima Kenya:Nairobi Iran:Tehran Iraq:Baghdad "
            "Denmark:Copenhagen Thailand:Bangkok"
        ),
    ),
    "young": (
        "A young {} is called a",
        _pairs("dog:puppy cat:kitten cow:calf horse:foal sheep:lamb chicken:chick duck:duckling bear:cub goat:kid"),
    ),
    "opposite": (
        "The opposite of {} is",
        _pairs(
            "hot:cold big:small old:young fast:slow up:down day:night happy:sad rich:poor early:late open:closed "
            "full:empty hard:soft light:dark near:far clean:dirty wet:dry strong:weak first:last "
            "love:hate win:lose true:false"
        ),
    ),
    "colour": (
        "The colour of {} is",
        _pairs("grass:green blood:red snow:white coal:black the_sky:blue a_lemon:yellow chocolate:brown ash:grey"),
    ),
    "use": (
        "People use {} to",
        _pairs(
            "a_knife:cut a_pen:write a_broom:sweep a_needle:sew a_shovel:dig an_oven:bake a_towel:dry a_bed:sleep "
            "a_microphone:speak a_car:drive glasses:see a_kite:fly a_pillow:rest a_bow:shoot"
        ),
    ),
    "kind": (
        "{} is a kind of",
        _pairs(
            "A_robin:bird A_carrot:vegetable An_apple:fruit A_rose:flower A_hammer:tool Gold:metal A_violin:instrument "
            "A_salmon:fish An_oak:tree A_sofa:furniture Tennis:sport A_shirt:clothing A_bus:vehicle An_ant:insect"
        ),
    ),
    "workplace": (
        "A {} usually works in a",
        _pairs(
            "teacher:school nurse:hospital cook:kitchen judge:court miner:mine actor:theatre librarian:library "
            "baker:bakery banker:bank monk:monastery gardener:garden priest:church"
        ),
    ),
    "next": (
        "After {} comes",
        _pairs(
            "Monday:Tuesday Wednesday:Thursday Friday:Saturday January:February March:April May:June July:August "
            "September:October November:December spring:summer autumn:winter one:two three:four five:six seven:eight "
            "nine:ten A:B C:D"
        ),
    ),
    "part": (
        "{} is part of a",
        _pairs(
            "A_branch:tree A_page:book A_petal:flower A_roof:house A_sleeve:shirt A_toe:foot A_sail:ship A_finger:hand "
            "A_pedal:bicycle A_keyboard:computer A_wing:bird A_beach:coast"
        ),
    ),
    "language": (
        "Most people in {} speak",
        _pairs(
            "Germany:German France:French Italy:Italian Japan:Japanese Russia:Russian Poland:Polish Sweden:Swedish "
            "Turkey:Turkish Greece:Greek Brazil:Portuguese Mexico:Spanish England:English Egypt:Arabic "
            "Hungary:Hungarian"
        ),
    ),
    "sound": (
        "The animal that says {} is the",
        _pairs("moo:cow meow:cat woof:dog quack:duck oink:pig baa:sheep neigh:horse ribbit:frog hoot:owl roar:lion"),
    ),
}
"""Relation -> template and its pairs. Source: constructed; common knowledge."""
