"""Word lists and made-up words: the raw material of every sentence in the corpus."""

# ruff: noqa: SIM905 - lists of words and of sentences read better as text.

from __future__ import annotations

from random import Random

NAMES = (
    "Ada Alma Amir Ana Anton Aria Arlo Asha Ben Bella Boris Bruno Carla Cleo Dana Dario David Dina "
    "Edda Eli Ella Emil Emma Enzo Erik Eva Fatima Felix Finn Flora Frida Gina Greta Hana Hans Hugo "
    "Ida Igor Ines Iris Ivan Jack Jana Jonas Julia Kai Kira Klara Lars Lea Leo Lena Liam Lina Lola "
    "Lucas Luna Maja Marco Maria Mark Marta Max Maya Mia Mila Milo Nadia Nia Nico Nina Noah Nora "
    "Olga Oscar Otto Paula Pavel Pedro Petra Pia Quinn Rafael Rana Remy Rita Robin Rosa Ruben Sam "
    "Sara Selma Simon Sofia Stella Tara Theo Tim Tina Tom Uma Vera Victor Wanda Will Xenia Yara "
    "Yusuf Zara Zoe Zora"
).split()
ADJECTIVES = (
    "red blue green yellow white black silver golden brown purple small little tiny big old new "
    "young quiet loud brave clever kind happy sad lazy quick slow warm cold bright dark shiny "
    "dusty wooden paper broken lost hidden magic silent gentle proud funny round square tall short "
    "heavy light soft hard early late northern southern eastern western lucky lonely strange "
    "simple fresh sweet bitter rusty snowy rainy sunny windy foggy hungry sleepy curious "
    "patient humble noble grey pink orange striped spotted crooked narrow wide deep high "
    "low empty full clean muddy"
).split()
THINGS = (
    "lantern train ticket whistle wagon engine bridge tunnel station signal lamp bell clock map "
    "box key letter book pencil kite boat ship anchor wheel rope ladder bucket basket bottle "
    "button coat hat scarf shoe glove umbrella mirror window door chair table bed pillow "
    "blanket candle stone shell feather leaf flower tree apple pear plum cherry lemon carrot "
    "potato pumpkin bread "
    "cake cookie cheese teapot cup spoon bowl plate drum flute violin piano guitar trumpet balloon "
    "ball doll robot rocket star moon cloud river lake hill mountain island castle tower garden "
    "farm mill barn house tent cave forest meadow road path gate fence camera radio telescope "
    "compass hammer nail saw brush painting statue coin ring crown sword shield flag puppet ribbon"
).split()
ANIMALS = (
    "cat dog fox wolf bear mouse rabbit hare deer horse cow pig goat sheep duck goose hen owl crow "
    "eagle sparrow robin swan frog toad turtle snake fish whale dolphin seal crab bee ant spider "
    "butterfly snail hedgehog squirrel beaver badger otter mole bat lion tiger elephant giraffe "
    "zebra monkey camel penguin parrot donkey"
).split()
CITIES = (
    "Lisbon Paris London Berlin Madrid Rome Vienna Prague Warsaw Oslo Stockholm Helsinki Dublin "
    "Athens Cairo Nairobi Lagos Accra Dakar Tunis Tokyo Osaka Kyoto Seoul Beijing Shanghai Delhi "
    "Mumbai Dhaka Hanoi Bangkok Jakarta Manila Sydney Perth Auckland Toronto Montreal Vancouver "
    "Boston Chicago Denver Seattle Austin Miami Dallas Havana Lima Quito Bogota Santiago Porto "
    "Seville Lyon Nice Turin Milan Naples Zurich Geneva Basel Munich Hamburg Bremen Leipzig Graz "
    "Krakow Riga Vilnius Tallinn Bergen Malmo Aarhus Ghent Bruges Utrecht Leiden York Leeds Bath"
).split()
ROLES = (
    "driver conductor guard cook baker teacher farmer doctor nurse painter singer dancer writer "
    "sailor pilot captain gardener carpenter builder engineer student child neighbour visitor "
    "guest friend traveller passenger worker player runner musician librarian postman fisherman"
).split()
VEHICLES = "train bus boat ship ferry tram plane wagon truck bicycle rocket balloon".split()
TIMES = "night morning evening midnight noon winter summer autumn spring weekend holiday".split()
COLOURS = "red blue green yellow white black silver golden brown purple grey pink orange".split()
VERBS = (
    "run walk sing dance paint build cook bake read write swim climb jump sleep dream travel work "
    "play learn teach plant draw fix clean carry"
).split()
PLACES = (
    "a small town|a quiet village|a big city|a green valley|an old station|a deep forest|"
    "a sunny island|a snowy mountain|a busy harbour|a long street|a little farm|a windy hill|"
    "a hidden garden|a small house by the sea|a narrow lane|a wide meadow"
).split("|")
UNICODE = (
    "café|naïve|Zürich|São Paulo|Łódź|crème brûlée|señor|Ærø|jalapeño|Köln|über|façade|мир|поезд|"
    "привет|γειά|世界|列车|こんにちは|기차|مرحبا|שלום|🚂|🚃🚃🚃|🎉|😀|👍|❤️|→|€20|½|naïveté|Čapek|ñandú|Øresund"
).split("|")
PHRASE_WORDS = (
    "the a my our your this that every one some of in on at by for with and but or from to over "
    "under near after before is was has had will can go goes come comes see sees make makes find "
    "finds keep keeps today tomorrow never always often soon here there good nice true first last "
    "next all most very".split()
)

_ONSETS = "b bl br c ch cl d dr f fl g gl gr h j k kr l m n p pl pr qu r s sh sk st t th tr v w x z"
_ONSET_LIST = _ONSETS.split()
_VOWELS = "a e i o u a e i o u ai ea ee oo ou".split()
_CODAS = ["", "", "", "b", "d", "ff", "g", "k", "l", "m", "n", "nd", "p", "r", "rt", "s", "t", "x"]


class Dice(Random):
    """A random source that also says how often words are odd: made up, or of other scripts."""

    def __init__(self, seed: str, oddness: float = 1.0) -> None:
        super().__init__(seed)
        # Times the usual share of odd words.
        self.oddness = oddness


def oddness(rng: Random) -> float:
    """How often words are odd, 1 = as usual."""
    return rng.oddness if isinstance(rng, Dice) else 1.0


def plain(rng: Random) -> bool:
    """Whether tasks are to be the everyday ones: fewer fields, no steps, no titles."""
    return oddness(rng) < 1


def odd(rng: Random, share: float) -> bool:
    """Whether the next word is odd; `share` is how often that is usual."""
    return rng.random() < share * oddness(rng)


def made_up(rng: Random) -> str:
    """A word that is (almost certainly) in no dictionary, two or three syllables, lower case."""
    syllables = rng.choice((1, 2, 2, 2, 3))
    parts = [rng.choice(_ONSET_LIST) + rng.choice(_VOWELS) for _ in range(syllables)]
    return "".join(parts) + rng.choice(_CODAS)


def letters(rng: Random) -> str:
    """A random string of letters, now and then with digits, 2 to 8 characters."""
    pool = "abcdefghijklmnopqrstuvwxyz" + ("0123456789" if rng.random() < 0.3 else "")
    return "".join(rng.choice(pool) for _ in range(rng.randint(2, 8)))


def person(rng: Random) -> str:
    """A first name, one in four made up."""
    return made_up(rng).capitalize() if odd(rng, 0.25) else rng.choice(NAMES)


def city(rng: Random) -> str:
    """A city, one in five made up."""
    return made_up(rng).capitalize() if odd(rng, 0.2) else rng.choice(CITIES)


def thing(rng: Random) -> str:
    """A thing or animal, one in six made up."""
    roll = rng.random()
    if roll < 0.17 * oddness(rng):
        return made_up(rng)
    return rng.choice(ANIMALS if roll < 0.4 else THINGS)


def any_word(rng: Random) -> str:
    """One lower-case word with a meaning of its own, or none."""
    roll = rng.random()
    if roll < 0.3 * oddness(rng):
        return made_up(rng)
    pool = (THINGS, ADJECTIVES, ANIMALS, ROLES, VERBS)[rng.randrange(5)]
    return rng.choice(pool)


def phrase(rng: Random, low: int, high: int) -> str:
    """A run of words that means nothing in particular."""
    words = [
        rng.choice(PHRASE_WORDS) if rng.random() < 0.3 else any_word(rng)
        for _ in range(rng.randint(low, high))
    ]
    if odd(rng, 0.15):
        words[rng.randrange(len(words))] = rng.choice(UNICODE)
    if rng.random() < 0.2:
        words[rng.randrange(len(words))] = str(rng.randint(0, 2000))
    if rng.random() < 0.15:
        words[rng.randrange(len(words))] = person(rng)
    return " ".join(words)


def article(word: str) -> str:
    """The word behind its indefinite article."""
    return ("an " if word[0].lower() in "aeiou" else "a ") + word


def listing(words: list[str], joiner: str = "and") -> str:
    """`a, b and c`."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + f" {joiner} {words[-1]}"


def weighted(rng: Random, *choices: tuple[str, float]) -> str:
    """One of the texts, by weight."""
    return rng.choices([c[0] for c in choices], [c[1] for c in choices])[0]
