"""The verbs of the demo corpus.

One verb a line: infinitive with ``|`` behind a separable prefix, third person singular,
participle, auxiliary ``=`` English verb, where ``@`` marks the place of a pronoun ("pick him
up"). A table's key lists the kinds of noun that its verbs go with, as named in
:data:`~fairseq_cgc.mt.demo_corpus.nouns.NOUNS`; a word may be in two tables with two meanings
(``tragen`` is "wear" or "carry").
"""

from __future__ import annotations

from dataclasses import dataclass

from fairseq_cgc.mt.demo_corpus.inflection import EnglishVerb, Verb, table_rows


@dataclass(frozen=True)
class Modal:
    """``english`` is an auxiliary ("can"), or a verb followed by "to" ("have")."""

    german: str
    english: str


MODALS = {
    "present": (
        Modal("können", "can"),
        Modal("müssen", "have"),
        Modal("wollen", "want"),
        Modal("sollen", "should"),
        Modal("dürfen", "be allowed"),
        Modal("möchten", "would like"),
    ),
    "preterite": (
        Modal("konnte", "could"),
        Modal("musste", "have"),
        Modal("wollte", "want"),
        Modal("durfte", "be allowed"),
    ),
}


# "knows", never "is knowing"; the first line also takes no time ("knew three days ago").
STATES = (
    *("kennen", "lieben", "brauchen", "verstehen", "vertrauen", "vermissen"),
    *("gehören", "gefallen"),
)
_EVENTS = ("sehen", "hören", "finden", "verlieren", "vergessen")
_SIMPLE = (*STATES, *_EVENTS, "glauben", "wissen", "hoffen", "sagen", "fragen")
# Nobody does these "gern".
DISLIKED = ("aufwachen", "einschlafen", "aufstehen", "ankommen", "weinen", "aufgeben")


def _verbs(tables: dict[str, str]) -> tuple[Verb, ...]:
    verbs = []
    for kinds, table in tables.items():
        for (infinitive, third, participle, auxiliary), english in table_rows(table):
            prefix, _, base = infinitive.rpartition("|")
            head, _, tail = english.partition(" ")
            verbs.append(
                Verb(
                    base,
                    prefix,
                    third,
                    participle,
                    {"hat": "haben", "ist": "sein"}[auxiliary],
                    EnglishVerb(head, tail),
                    tuple(kinds.split()),
                    simple=infinitive in _SIMPLE,
                )
            )
    return tuple(verbs)


# Keys: the kinds of the subject.
INTRANSITIVE = _verbs(
    {
        "person colleague family": """
            singen     singt   gesungen   hat = sing
            tanzen     tanzt   getanzt    hat = dance
            lachen     lacht   gelacht    hat = laugh
            weinen     weint   geweint    hat = cry
            arbeiten   arbeitet gearbeitet hat = work
            schwimmen  schwimmt geschwommen ist = swim
            auf|stehen steht   aufgestanden ist = get up
            ein|kaufen kauft   eingekauft hat = go shopping
            fern|sehen sieht   ferngesehen hat = watch television
            aus|gehen  geht    ausgegangen ist = go out
            träumen    träumt  geträumt   hat = dream
            mit|kommen kommt   mitgekommen ist = come along
            auf|geben  gibt    aufgegeben hat = give up""",
        "person colleague family animal": """
            schlafen   schläft geschlafen hat = sleep
            warten     wartet  gewartet   hat = wait
            ein|schlafen schläft eingeschlafen ist = fall asleep
            auf|wachen wacht   aufgewacht ist = wake up
            zurück|kommen kommt zurückgekommen ist = come back""",
        "person colleague family vehicle": """
            an|kommen  kommt   angekommen ist = arrive""",
        "vehicle": """
            ab|fahren  fährt   abgefahren ist = leave""",
    }
)
# Keys: which of DIRECTIONS the verb goes with.
MOTION = _verbs(
    {
        "near": """
            gehen      geht    gegangen   ist = go
            laufen     läuft   gelaufen   ist = run
            zurück|gehen geht  zurückgegangen ist = go back""",
        "far": """
            fahren     fährt   gefahren   ist = drive
            reisen     reist   gereist    ist = travel
            fliegen    fliegt  geflogen   ist = fly
            zurück|fahren fährt zurückgefahren ist = drive back""",
    }
)
# Keys: the kinds of the accusative object.
TRANSITIVE = _verbs(
    {
        "food": """
            essen      isst    gegessen   hat = eat
            kochen     kocht   gekocht    hat = cook
            probieren  probiert probiert  hat = taste
            bestellen  bestellt bestellt  hat = order
            auf|essen  isst    aufgegessen hat = eat @ up""",
        "text": """
            lesen      liest   gelesen    hat = read
            schreiben  schreibt geschrieben hat = write
            übersetzen übersetzt übersetzt hat = translate
            vor|lesen  liest   vorgelesen hat = read @ out
            ab|schreiben schreibt abgeschrieben hat = copy""",
        "clothes": """
            tragen     trägt   getragen   hat = wear
            waschen    wäscht  gewaschen  hat = wash
            an|ziehen  zieht   angezogen  hat = put @ on
            aus|ziehen zieht   ausgezogen hat = take @ off
            an|probieren probiert anprobiert hat = try @ on
            auf|hängen hängt   aufgehängt hat = hang @ up""",
        "opening": """
            öffnen     öffnet  geöffnet   hat = open
            schließen  schließt geschlossen hat = close
            auf|machen macht   aufgemacht hat = open
            zu|machen  macht   zugemacht  hat = close""",
        "device": """
            ein|schalten schaltet eingeschaltet hat = turn @ on
            aus|schalten schaltet ausgeschaltet hat = turn @ off
            benutzen   benutzt benutzt    hat = use""",
        "device vehicle": """
            reparieren repariert repariert hat = repair""",
        "room": """
            putzen     putzt   geputzt    hat = clean
            mieten     mietet  gemietet   hat = rent
            auf|räumen räumt   aufgeräumt hat = clean @ up""",
        "thing": """
            tragen     trägt   getragen   hat = carry
            zeichnen   zeichnet gezeichnet hat = draw""",
        "thing clothes text": """
            kaufen     kauft   gekauft    hat = buy
            verkaufen  verkauft verkauft  hat = sell
            suchen     sucht   gesucht    hat = look for
            finden     findet  gefunden   hat = find
            verlieren  verliert verloren  hat = lose
            vergessen  vergisst vergessen hat = forget
            verstecken versteckt versteckt hat = hide
            bezahlen   bezahlt bezahlt    hat = pay for
            brauchen   braucht gebraucht  hat = need
            mit|bringen bringt mitgebracht hat = bring along
            mit|nehmen nimmt   mitgenommen hat = take along
            weg|werfen wirft   weggeworfen hat = throw @ away
            zurück|geben gibt  zurückgegeben hat = return""",
        "person colleague family": """
            kennen     kennt   gekannt    hat = know
            lieben     liebt   geliebt    hat = love
            vermissen  vermisst vermisst  hat = miss
            verstehen  versteht verstanden hat = understand
            besuchen   besucht besucht    hat = visit
            treffen    trifft  getroffen  hat = meet
            begrüßen   begrüßt begrüßt    hat = greet
            an|rufen   ruft    angerufen  hat = call
            ein|laden  lädt    eingeladen hat = invite
            ab|holen   holt    abgeholt   hat = pick @ up""",
        "person colleague family animal": """
            sehen      sieht   gesehen    hat = see
            hören      hört    gehört     hat = hear
            suchen     sucht   gesucht    hat = look for
            malen      malt    gemalt     hat = paint""",
        "animal": """
            füttern    füttert gefüttert  hat = feed
            kaufen     kauft   gekauft    hat = buy""",
    }
)
# Keys: the kinds of the dative object.
DATIVE = _verbs(
    {
        "person colleague family": """
            helfen     hilft   geholfen   hat = help
            danken     dankt   gedankt    hat = thank
            antworten  antwortet geantwortet hat = answer
            folgen     folgt   gefolgt    ist = follow
            vertrauen  vertraut vertraut  hat = trust
            gratulieren gratuliert gratuliert hat = congratulate
            zu|hören   hört    zugehört   hat = listen to
            zu|sehen   sieht   zugesehen  hat = watch"""
    }
)
# Keys: the kinds of the accusative object; the dative is a human being.
DITRANSITIVE = _verbs(
    {
        "thing text clothes": """
            geben      gibt    gegeben    hat = give
            zeigen     zeigt   gezeigt    hat = show
            schicken   schickt geschickt  hat = send
            leihen     leiht   geliehen   hat = lend""",
        "food": """
            bringen    bringt  gebracht   hat = bring""",
    }
)
# Keys: the kinds of the subject. The dative of gefallen is the subject of "like".
EXPERIENCER = _verbs(
    {
        "text clothes thing room": """
            gefallen   gefällt gefallen   hat = like""",
        "clothes thing vehicle animal device": """
            gehören    gehört  gehört     hat = belong to""",
    }
)
WEATHER = _verbs(
    {
        "": """
            regnen     regnet  geregnet   hat = rain
            schneien   schneit geschneit  hat = snow"""
    }
)
COPULA = Verb("sein", "", "ist", "gewesen", "sein", EnglishVerb("be"), simple=True)
# Keys: the conjunction of the clause that is known, thought or asked.
BELIEF = _verbs(
    {
        "dass": """
            glauben    glaubt  geglaubt   hat = think
            wissen     weiß    gewusst    hat = know
            hoffen     hofft   gehofft    hat = hope
            sagen      sagt    gesagt     hat = say""",
        "ob": """
            fragen     fragt   gefragt    hat = ask""",
    }
)
# Verbs that take an infinitive with zu; the keys are the tenses in which English sounds natural.
CONTROL = _verbs(
    {
        "present perfect": """
            versuchen  versucht versucht  hat = try
            planen     plant   geplant    hat = plan""",
        "present": """
            hoffen     hofft   gehofft    hat = hope""",
        "perfect": """
            vergessen  vergisst vergessen hat = forget
            versprechen verspricht versprochen hat = promise
            beschließen beschließt beschlossen hat = decide""",
    }
)
