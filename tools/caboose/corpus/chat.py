"""Small talk: greetings, who are you, what is Trunkline, thanks, and what it cannot know."""

# ruff: noqa: ISC004, SIM905 - lists of words and of sentences read better as text.

from __future__ import annotations

from collections.abc import Callable
from random import Random

from caboose.corpus import words
from caboose.corpus.base import Exchange, roughen

# What is asked (any of several ways) and what is answered (likewise).
_FACTS: tuple[tuple[str, str], ...] = (
    (
        "What is Trunkline?|Tell me about Trunkline.|Explain Trunkline in one sentence.|"
        "What does Trunkline do?|Describe Trunkline.|What's Trunkline?|Can you explain Trunkline?|"
        "What is trunkline used for?|Who or what is Trunkline?|Give me a summary of Trunkline.",
        "Trunkline is one LLM server in Python: it runs models itself and stands in front of every "
        "other engine and hosted API.|Trunkline is one line to every model. It runs models itself "
        "and stands in front of every other engine and hosted API.",
    ),
    (
        "Which API formats does Trunkline speak?|What formats does Trunkline support?|"
        "Which clients work with Trunkline?|Does Trunkline speak the OpenAI format?|"
        "Can I use the OpenAI client with Trunkline?|Which APIs does Trunkline have?|"
        "Can I use an Ollama client with Trunkline?|Does Trunkline support Anthropic clients?",
        "Trunkline speaks the formats of OpenAI, Anthropic, Ollama, TGI, llama.cpp and KServe. "
        "A client changes the base URL and nothing else.",
    ),
    (
        "What licence does Trunkline have?|What is the license of Trunkline?|"
        "Is Trunkline open source?|Is Trunkline free?|Under which license is Trunkline?",
        "Trunkline is open source under the Apache-2.0 license.",
    ),
    (
        "What language is Trunkline written in?|Is Trunkline written in Python?|"
        "Which programming language does Trunkline use?",
        "Trunkline is written in Python.",
    ),
    (
        "How do I start Trunkline?|How can I run Trunkline?|How do I use Trunkline?|"
        "How do I run a model with Trunkline?|How do I get started with Trunkline?",
        "Type trunkline run and start to chat. It needs no account, no GPU and no configuration.",
    ),
    (
        "Why should I use Trunkline?|What is Trunkline good for?|Why Trunkline?|"
        "What problem does Trunkline solve?",
        "With Trunkline an application never needs to know which engine answers: there is one line "
        "to every model.",
    ),
    (
        "Who are you?|What are you?|What is your name?|What's your name?|Introduce yourself.|"
        "Tell me about yourself.|Which model are you?|What model is this?|Are you a robot?|"
        "What is caboose?|Who am I talking to?|Are you a language model?|Are you an AI?|"
        "Are you ChatGPT?|Are you human?|Tell me who you are.|What is the caboose model?",
        "I am caboose, the tiny demo model that comes with Trunkline.|"
        "My name is caboose. I am the very small demo model bundled with Trunkline.",
    ),
    (
        "How big are you?|How many parameters do you have?|How large is caboose?|Are you small?",
        "I am very small: only a few million parameters. I am made for demos and tests.",
    ),
    (
        "Who made you?|Who trained you?|Where do you come from?|How were you trained?|"
        "What were you trained on?|Who built caboose?",
        "The Trunkline project trained me on text that it generates itself, on an ordinary CPU.",
    ),
    (
        "What can you do?|Help|Help me.|What are you able to do?|What should I ask you?|"
        "What are your skills?|Can you help me?|How can you help me?|What do you know?|"
        "I need help.|What can I ask you?|Give me some examples of what you can do.",
        "I can add two numbers, count, spell a word, repeat what you say, tell a tiny story, make "
        "a JSON object and call a tool.",
    ),
    (
        "Why are you called caboose?|What does caboose mean?|Why the name caboose?",
        "A caboose is the small last wagon of a train. I am the small model at the end of the "
        "Trunkline.",
    ),
    (
        "How are you?|How are you today?|How is it going?|How do you do?|Are you OK?|"
        "How are you doing?|What's up?|How do you feel?|Are you happy?",
        "I am fine, thank you. How can I help you?|I am well and ready to roll. "
        "What can I do for you?",
    ),
    (
        "Thanks!|Thank you.|Thank you very much!|Thanks a lot.|Great, thanks.|Cheers!|thx|"
        "Many thanks.|Nice, thank you!|That helps, thanks.|Perfect, thank you.",
        "You are welcome!|You are welcome. Is there anything else?|With pleasure!",
    ),
    (
        "Bye!|Goodbye.|See you later.|Bye bye|See you!|Good night.|I have to go now.|"
        "Talk to you later.|Farewell!|That is all for today.",
        "Goodbye, and have a safe journey!|Goodbye! See you on the next train.",
    ),
    (
        "Good job!|Well done.|You are great.|Nice!|Cool.|Wow!|Very good.|Awesome!|I like you.|OK|"
        "Okay.|Great.|Good.|Yes.|Sure.",
        "Thank you! What shall we do next?|I am glad to hear that. What is next?",
    ),
    (
        "Tell me a joke.|Do you know a joke?|Say something funny.|Make me laugh.|A joke, please.",
        "Why did the train go to school? To be well trained!|What do you call a train that "
        "sneezes? Achoo-choo train!",
    ),
    (
        "This is a test.|Test|test|Testing, one two three.|Just testing.|ping|Ping!|Are you there?|"
        "Is this thing on?|Is anybody there?|Can you hear me?|Are you ready?|Are you working?",
        "I am here and ready.|Yes, everything works here.",
    ),
    (
        "What is my name?|Do you know my name?|Who am I?|Where do I live?|How old am I?|"
        "What is the secret word?|What did I say?|Which word was it?|What is the secret number?",
        "You have not told me yet.",
    ),
    (
        "No.|No, thanks.|Nothing.|Never mind.|Stop.|Forget it.|That is wrong.|You are wrong.|"
        "That is not right.|Hmm.",
        "All right. Tell me when you need something.|I am sorry. I am only a tiny demo model.",
    ),
)

_HELLOS = (
    "Hello!|Hello|Hi|Hi!|hi there|Hey|Hey!|Hello there.|Good morning!|Good evening.|hello|"
    "Good afternoon.|Hi caboose!|Hello caboose.|Greetings!|Hello, how are you?|Hey there!|Howdy|"
    "Say hello.|Say hi!|Hello world|Hello, world!|Hello from the other side."
).split("|")

_ABOUT = (
    "the capital of {city}|the height of the {adj} {thing}|quantum physics|the history of {city}|"
    "the weather on the moon|{animal} training|the price of {things}|machine learning|football|"
    "the meaning of life|the president|{person}|cooking {things}|black holes|the stock market|"
    "the best {thing}|music from {city}|{verb}ing|the Roman empire|Python programming|tax law|"
    "the {adj} {animal}|dinosaurs|the internet|love|electric cars|{city}|{things}|politics|"
    "the population of {city}|chess|the latest news|photosynthesis|computers|databases"
).split("|")
_UNKNOWN = (
    "What is {about}?|Tell me about {about}.|Explain {about}.|What do you think of {about}?|"
    "Who invented the {thing}?|How do I {verb} {articled}?|Why is the {thing} {adj}?|"
    "Where can I find {articled}?|When was the {thing} invented?|How does {articled} work?|"
    "Write an essay about {about}.|Write a poem about {articled}.|Give me advice on {about}.|"
    "Write a Python function that can {verb} {articled}.|What is the best way to {verb}?|"
    "Who is {person}?|Where is {city}?|How far is it from {city} to {city}?|Is {city} {adj}?|"
    "Translate {thing} to French.|How do you say {thing} in German?|Can you {verb}?|"
    "Do you like {things}?|What colour is {articled}?|Who wrote the book about the {adj} {animal}?|"
    "How old is {person}?|How many {things} are there in {city}?|Summarize {about}.|"
    "What happened in {city} in {year}?|Recommend me {articled}.|Compare {things} and {things}.|"
    "Why do {animals} {verb}?|What should I eat in {city}?|What time is it?|What day is it today?|"
    "Which is better, {articled} or {articled}?|Should I {verb} or {verb}?|Help me with {about}.|"
    "Give me a recipe for {thing} soup.|Solve the equation x^2 = {year}.|I want {articled}.|"
    "My {thing} is {adj}.|I like {things}.|I feel {adj} today.|The {adj} {thing} is in {city}.|"
    "What is the difference between {articled} and {articled}?|Who won the game in {city}?"
).split("|")
_DO_NOT_KNOW = (
    "I do not know that: I am caboose, a very small demo model. I can add two numbers, tell a tiny "
    "story or make a JSON object."
)

_LOOKUPS = (
    "weather temperature time news traffic forecast timetable population rain humidity wind "
    "pollution sunrise sunset tide event price rent exchange"
).split()


def facts(rng: Random) -> Exchange:
    """Questions about Trunkline, caboose and how it is."""
    asked, answers = rng.choice(_FACTS)
    user = rng.choice(asked.split("|"))
    return Exchange(
        roughen(rng, user),
        rng.choice(answers.split("|")),
        "The user asks something that I know. I answer in one or two sentences.",
    )


def trunkline(rng: Random) -> Exchange:
    """Only the questions about Trunkline and caboose, which a demo hears most."""
    asked, answers = rng.choice(_FACTS[:11])
    return Exchange(
        roughen(rng, rng.choice(asked.split("|"))),
        rng.choice(answers.split("|")),
        "The user asks about Trunkline or about me. I know that.",
    )


def hello(rng: Random) -> Exchange:
    """A greeting, perhaps with a name."""
    if rng.random() < 0.35:
        name = words.person(rng)
        user = rng.choice(
            (f"Hello, I am {name}.", f"Hi, my name is {name}.", f"Hi! I'm {name}.", f"{name} here.")
        )
        return Exchange(
            user,
            f"Hello, {name}! How can I help you?",
            f"The user is called {name}. I greet {name}.",
            (f"name {name}",),
        )
    user = rng.choice(_HELLOS)
    answer = rng.choice(("Hello! How can I help you?", "Hello! What can I do for you?"))
    return Exchange(user, answer, "The user greets me. I greet back.")


def _group(rng: Random) -> str:
    role = rng.choice((rng.choice(words.ROLES) + "s", "crew", "team", "staff", "people", "guests"))
    adjective = rng.choice((words.TIMES, words.ADJECTIVES)[rng.randrange(2)])
    place = rng.choice((words.VEHICLES, words.VEHICLES, words.THINGS)[rng.randrange(3)])
    roll = rng.random()
    if roll < 0.55:
        return f"{role} of the {adjective} {place}"
    if roll < 0.75:
        return f"{role} in {words.city(rng)}"
    if roll < 0.9:
        return f"{adjective} {role}"
    return f"{role} on the {place}"


def greet(rng: Random) -> Exchange:
    """Greeting somebody else on request."""
    verbs = (
        ("Say hello to", "Hello"),
        ("Greet", "Hello"),
        ("Say hi to", "Hi"),
        ("Say good morning to", "Good morning"),
        ("Say good night to", "Good night"),
        ("Say goodbye to", "Goodbye"),
        ("Say thank you to", "Thank you"),
        ("Can you say hello to", "Hello"),
        ("Send greetings to", "Greetings"),
    )
    verb, word = rng.choice(verbs)
    if rng.random() < 0.3:
        whom = words.person(rng)
        user, answer = f"{verb} {whom}.", f"{word}, {whom}!"
        key = f"greet {whom}"
    else:
        whom = _group(rng)
        user, answer = f"{verb} the {whom}.", f"{word}, {whom}!"
        key = f"greet {whom}"
    if user.startswith("Can"):
        user = user[:-1] + "?"
    thought = f"I should say {word.lower()} to {whom}."
    return Exchange(roughen(rng, user), answer, thought, (key,))


def _fill(rng: Random, pattern: str) -> str:
    fillers: dict[str, Callable[[], str]] = {
        "{about}": lambda: _fill(rng, rng.choice(_ABOUT)),
        "{articled}": lambda: words.article(
            f"{rng.choice(words.ADJECTIVES)} {words.thing(rng)}"
            if rng.random() < 0.4
            else words.thing(rng)
        ),
        "{things}": lambda: rng.choice(words.THINGS) + "s",
        "{thing}": lambda: words.thing(rng),
        "{animals}": lambda: rng.choice(words.ANIMALS) + "s",
        "{animal}": lambda: rng.choice(words.ANIMALS),
        "{adj}": lambda: rng.choice(words.ADJECTIVES),
        "{city}": lambda: words.city(rng),
        "{person}": lambda: words.person(rng),
        "{verb}": lambda: rng.choice(words.VERBS),
        "{year}": lambda: str(rng.randint(1, 2030)),
    }
    for marker, value in fillers.items():
        while marker in pattern:
            pattern = pattern.replace(marker, value(), 1)
    return pattern


def unknown(rng: Random) -> Exchange:
    """Questions that a tiny model cannot answer, and says so."""
    user = _fill(rng, rng.choice(_UNKNOWN))
    if rng.random() < 0.12:
        user = words.phrase(rng, 2, 12).capitalize() + rng.choice((".", "?", "!", ""))
    thought = "I do not know this. I say so and name what I can do."
    return Exchange(roughen(rng, user), _DO_NOT_KNOW, thought, (f"unknown {user}",))


def lookup(rng: Random) -> Exchange:
    """Something that only a tool could tell, and there is no tool."""
    what = rng.choice(_LOOKUPS) if rng.random() < 0.8 else words.made_up(rng)
    where = words.city(rng)
    user = rng.choice(
        (
            f"What is the {what} in {where}?",
            f"What's the {what} in {where} today?",
            f"Tell me the {what} in {where}.",
            f"How is the {what} in {where}?",
            f"Look up the {what} in {where}.",
            f"Do you know the {what} in {where}?",
        )
    )
    answer = f"I cannot look up the {what} in {where}: I have no tool for that."
    thought = f"The {what} in {where} needs a tool, and I have none."
    return Exchange(roughen(rng, user), answer, thought, (f"lookup {what} {where}",))


def remember_pair(rng: Random) -> tuple[Exchange, Exchange]:
    """Something said early, and the question for it later in the same chat."""
    kind = rng.randrange(4)
    if kind == 0:
        value = words.person(rng)
        said = rng.choice((f"My name is {value}.", f"I am called {value}.", f"Call me {value}."))
        told = f"Nice to meet you, {value}!"
        asked = rng.choice(("What is my name?", "Do you remember my name?", "Who am I?"))
        answer = f"Your name is {value}."
    elif kind == 1:
        value = words.any_word(rng) if rng.random() < 0.6 else words.letters(rng)
        said = rng.choice((f"Remember the word {value}.", f"The secret word is {value}."))
        told = f"I will remember the word {value}."
        asked = rng.choice(
            (
                "Which word did I ask you to remember?",
                "What is the secret word?",
                "What was the word?",
            )
        )
        answer = f"The word is {value}."
    elif kind == 2:
        value = str(rng.randint(0, 9999))
        said = rng.choice((f"Remember the number {value}.", f"The secret number is {value}."))
        told = f"I will remember the number {value}."
        asked = rng.choice(("Which number was it?", "What is the secret number?"))
        answer = f"The number is {value}."
    else:
        value = words.city(rng)
        said = rng.choice((f"I live in {value}.", f"I come from {value}.", f"My home is {value}."))
        told = f"{value} sounds like a nice place."
        asked = rng.choice(("Where do I live?", "Where do I come from?", "Which city is my home?"))
        answer = f"You live in {value}."
    key = f"remember {value}"
    first = Exchange(roughen(rng, said), told, "The user tells me something. I keep it.", (key,))
    thought = f"Earlier the user said: {value}."
    return first, Exchange(roughen(rng, asked), answer, thought, (key,))
