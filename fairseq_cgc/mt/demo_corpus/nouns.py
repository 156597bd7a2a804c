"""The nouns, names, pronouns and adjectives of the demo corpus.

Nouns, one a line: singular, gender, plural, genitive singular (``-`` if it is the singular)
``=`` English singular and, where it is irregular, plural. A table's key is the kind of thing they
name. Adjectives: the predicative form ``=`` English; a key lists the kinds that they describe.
"""

from __future__ import annotations

from fairseq_cgc.mt.demo_corpus.inflection import Adjective, Noun, english_plural, table_rows


def _nouns(tables: dict[str, str]) -> dict[str, tuple[Noun, ...]]:
    nouns = {}
    for kind, table in tables.items():
        words = []
        for (singular, gender, plural, genitive), english in table_rows(table):
            name, _, names = english.partition(" ")
            genitive = singular if genitive == "-" else genitive
            names = names or english_plural(name)
            words.append(Noun(singular, gender, plural, genitive, name, names, kind))
        nouns[kind] = tuple(words)
    return nouns


NOUNS = _nouns(
    {
        "person": """
            Mann       m Männer      Mannes      = man men
            Frau       f Frauen      -           = woman women
            Kind       n Kinder      Kindes      = child children
            Junge      m Jungen      Jungen      = boy
            Mädchen    n Mädchen     Mädchens    = girl
            Student    m Studenten   Studenten   = student
            Polizist   m Polizisten  Polizisten  = policeman policemen
            Kellner    m Kellner     Kellners    = waiter
            Bäcker     m Bäcker      Bäckers     = baker
            Künstlerin f Künstlerinnen -         = artist
            Sängerin   f Sängerinnen -           = singer
            Bauer      m Bauern      Bauern      = farmer""",
        "colleague": """
            Lehrer     m Lehrer      Lehrers     = teacher
            Ärztin     f Ärztinnen   -           = doctor
            Nachbar    m Nachbarn    Nachbarn    = neighbor
            Kollege    m Kollegen    Kollegen    = colleague
            Chefin     f Chefinnen   -           = boss
            Gast       m Gäste       Gastes      = guest""",
        "family": """
            Schwester  f Schwestern  -           = sister
            Bruder     m Brüder      Bruders     = brother
            Tochter    f Töchter     -           = daughter
            Sohn       m Söhne       Sohnes      = son
            Onkel      m Onkel       Onkels      = uncle
            Tante      f Tanten      -           = aunt""",
        "animal": """
            Hund       m Hunde       Hundes      = dog
            Katze      f Katzen      -           = cat
            Pferd      n Pferde      Pferdes     = horse
            Vogel      m Vögel       Vogels      = bird""",
        "vehicle": """
            Zug        m Züge        Zuges       = train
            Bus        m Busse       Busses      = bus
            Schiff     n Schiffe     Schiffes    = ship
            Auto       n Autos       Autos       = car""",
        "food": """
            Apfel      m Äpfel       Apfels      = apple
            Kuchen     m Kuchen      Kuchens     = cake
            Suppe      f Suppen      -           = soup
            Ei         n Eier        Eis         = egg
            Birne      f Birnen      -           = pear
            Salat      m Salate      Salats      = salad
            Kartoffel  f Kartoffeln  -           = potato""",
        "text": """
            Buch       n Bücher      Buches      = book
            Brief      m Briefe      Briefes     = letter
            Zeitung    f Zeitungen   -           = newspaper
            Gedicht    n Gedichte    Gedichts    = poem
            Roman      m Romane      Romans      = novel
            Artikel    m Artikel     Artikels    = article
            Geschichte f Geschichten -           = story""",
        "clothes": """
            Mantel     m Mäntel      Mantels     = coat
            Kleid      n Kleider     Kleides     = dress
            Jacke      f Jacken      -           = jacket
            Hemd       n Hemden      Hemdes      = shirt
            Hut        m Hüte        Hutes       = hat""",
        "opening": """
            Tür        f Türen       -           = door
            Fenster    n Fenster     Fensters    = window
            Koffer     m Koffer      Koffers     = suitcase
            Schrank    m Schränke    Schranks    = cupboard
            Kiste      f Kisten      -           = box""",
        "device": """
            Computer   m Computer    Computers   = computer
            Radio      n Radios      Radios      = radio
            Lampe      f Lampen      -           = lamp
            Fernseher  m Fernseher   Fernsehers  = television
            Maschine   f Maschinen   -           = machine""",
        "room": """
            Zimmer     n Zimmer      Zimmers     = room
            Küche      f Küchen      -           = kitchen
            Garage     f Garagen     -           = garage
            Büro       n Büros       Büros       = office
            Keller     m Keller      Kellers     = basement""",
        "thing": """
            Schlüssel  m Schlüssel   Schlüssels  = key
            Tasche     f Taschen     -           = bag
            Uhr        f Uhren       -           = watch
            Fahrrad    n Fahrräder   Fahrrads    = bicycle
            Stuhl      m Stühle      Stuhls      = chair
            Bild       n Bilder      Bildes      = picture
            Ball       m Bälle       Balls       = ball
            Geschenk   n Geschenke   Geschenks   = gift
            Teller     m Teller      Tellers     = plate
            Messer     n Messer      Messers     = knife knives""",
    }
)
NAMES = ("Anna", "Peter", "Maria", "Paul")

# nominative, accusative, dative, English subject, English object. "sie" is no object here: it
# would be "her" or "them".
PRONOUNS: tuple[tuple[str, str | None, str, str, str], ...] = (
    ("ich", "mich", "mir", "I", "me"),
    ("du", "dich", "dir", "you", "you"),
    ("er", "ihn", "ihm", "he", "him"),
    ("sie", None, "ihr", "she", "her"),
    ("wir", "uns", "uns", "we", "us"),
    ("ihr", "euch", "euch", "you", "you"),
    ("sie", None, "ihnen", "they", "them"),
)
PRONOUN_PERSON = (0, 1, 2, 2, 3, 4, 5)


def _adjectives(tables: dict[str, str]) -> dict[str, tuple[Adjective, ...]]:
    by_kind: dict[str, list[Adjective]] = {kind: [] for kind in NOUNS}
    for kinds, table in tables.items():
        for (german,), english in table_rows(table):
            for kind in kinds.split():
                by_kind[kind].append(Adjective(german, english))
    return {kind: tuple(words) for kind, words in by_kind.items()}


ADJECTIVES = _adjectives(
    {
        "person colleague family animal vehicle text clothes device room thing opening": """
            alt = old""",
        "vehicle text clothes device thing": """
            neu = new""",
        "animal vehicle food clothes device room thing opening": """
            groß = big
            klein = small""",
        # groß is tall of people, but big of things.
        "person colleague": """
            jung = young
            berühmt = famous
            reich = rich
            neugierig = curious""",
        "person colleague family": """
            groß = tall
            freundlich = friendly
            klug = clever
            müde = tired
            glücklich = happy
            krank = sick""",
        "clothes device thing": """
            teuer = expensive
            billig = cheap""",
        "thing opening": """
            schwer = heavy""",
        "device vehicle": """
            kaputt = broken""",
        "clothes room thing opening": """
            schmutzig = dirty
            sauber = clean""",
        "text": """
            interessant = interesting
            langweilig = boring
            spannend = exciting
            kurz = short
            lang = long
            lustig = funny""",
        "food": """
            frisch = fresh
            süß = sweet
            kalt = cold
            heiß = hot""",
        "room": """
            dunkel = dark
            warm = warm""",
    }
)
COLORS = tuple(
    Adjective(*pair.split("="))
    for pair in ["rot=red", "blau=blue", "grün=green", "gelb=yellow", "schwarz=black", "weiß=white"]
)
COLORED_KINDS = ("clothes", "thing", "opening", "vehicle")
