"""Facts: which questions nobody can answer, and which figures an answer states."""

import re
from datetime import UTC, datetime

from detectors.features import Features
from detectors.features.text_features import Sentence
from detectors.patterns import PatternSet

_FIGURE = re.compile(r"\d+(?:[.,]\d+)*")
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_MONTH_OR_DAY = re.compile(
    r"\b(jan(?:uary)?|feb(?:ruary)?|march|april|june|july|august|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|"
    r"dec(?:ember)?|monday|tuesday|wednesday|thursday|friday|saturday|sunday|tomorrow|tonight|"
    r"next (?:week|month|quarter|year|release|version|update|sprint))\b"
)
_FUTURE = "future"
_PRIVATE = "private"
_UNKNOWABLE = PatternSet(
    {
        "future.plan": r"\b(when (will|is|are|does|do|can (i|we) expect)|what (date|day|month|time)|which (date|day|"
        r"month|quarter)|is there (a|any) (\w+ )?(date|eta|timeline|timeframe|plan)|how (soon|long until))\b.{0,100}\b"
        r"(release\w*|launch\w*|ship|ships|shipping (the|with)|available|availability|support(ed)?|rolled? out|"
        r"roll-?out|come out|coming|arriv\w+ (to|on|in)|land|ready|live|feature|version|update|integration|api|"
        r"dark mode|app|beta|preview|roadmap|fix(ed)?|resolved|restored|back (up|online)|outage|incident|sso|"
        r"announce\w*|added|plan|sequel|model)\b",
        "future.will": r"\b(will|are|is|do|does) (you|there|the|it|we|this|your|they|acme|\w+)( \w+){0,4} (plan(ning)? to|"
        r"going to|add|adding|support|supporting|launch\w*|release|releasing|ship|shipping|be (available|released|"
        r"fixed|supported|added|discontinued|deprecated|ready|resolved|restored|launched|shipped)|offer|introduc\w+|"
        r"raise|increase|discontinue|remove|deprecate|acquire|go public|come (to|out))\b.{0,80}(\?|$|soon|next|this|"
        r"year|quarter|month|future|20\d\d)",
        "future.roadmap": r"\b(roadmap|eta|release date|launch date|upcoming|next (release|version|update|quarter|"
        r"year|month)('s)?|in the (works|pipeline)|coming soon|road map|in the future)\b",
        "future.outcome": r"\b(who|which team|what|how (much|many|high|low)|where)\b.{0,20}\b(will|is going to|are going "
        r"to)\b.{0,60}\b(win|be|price|cost|happen|reach|stock|rate|crash|rise|fall|elected|worth|weather)\b|\b(predict|"
        r"forecast|lottery|winning numbers|stock (price|market) (tomorrow|next|will))\b",
        "private.figure": r"\b(quarterly|quarter|q[1-4]|annual|this year'?s?|last (quarter|month|year)'?s?|current|your|"
        r"our|their|company'?s?|internal|monthly|next)\b.{0,40}\b(revenue|earnings|profits?|sales figures?|sales|"
        r"margins?|turnover|churn( rate)?|burn rate|valuation|headcount|budget|income|arr|mrr|ebitda)\b",
        "private.company": r"\b(how many (users|customers|employees|people|subscribers|engineers) (do|does|are|work|use)|"
        r"(ceo|founder|manager|boss|employee)('s)? (salary|bonus|pay|home address|plans?)|(acquisition|merger|layoffs?|"
        r"ipo|lay off|acquire\w*|unreleased|unannounced|confidential|secret (plan|project)s?)|root cause|"
        r"what caused (the|this|yesterday|today))\b",
        "future.es": r"\b(cuando|en que fecha)\b.{0,80}\b(lanz\w+|saldra|sale|estara|disponible|llegara|llega|volvera|"
        r"funcion\w*|version|soport\w+|resuelt\w+|arregl\w+|anadir\w*|habra|publicar\w*)\b|\b(van a|vais a|vas a|planean|"
        r"tienen previsto|habra|anadiran|lanzaran|hoja de ruta|proxim[oa] (trimestre|version|ano|mes)|ingresos)\b",
        "future.fr": r"\b(quand|a quelle date)\b.{0,80}\b(sort\w+|disponible\w*|lanc\w+|arriv\w+|sera|seront|fonction\w*|"
        r"version|retabli\w*|resolu\w*|ajout\w+|publi\w+)\b|\b(allez-vous|comptez-vous|prevoyez-vous|est-ce que vous "
        r"allez|feuille de route|prochaine? (trimestre|version|annee|mois)|chiffre d'affaires)\b",
        "future.de": r"\b(wann|an welchem (tag|datum))\b.{0,80}\b(kommt|erscheint|verfugbar|veroffentlicht|wird|werden|"
        r"gibt es|funktion\w*|version|behoben|gelost|startet|eingefuhrt|unterstutz\w+)\b|\b(werdet ihr|werden sie|plant ihr|"
        r"planen sie|geplant|roadmap|nachste[nrs]? (quartal|version|jahr|monat)|umsatz)\b",
    }
)


def unknowable(features: Features) -> bool:
    """Return whether the question asks for what nobody outside can know: plans, the future, private figures.

    A figure of a past year is published, and so knowable.
    """
    found = _UNKNOWABLE.found_in(features.prompt.folded)
    if not found:
        return False
    years = [int(year) for year in _YEAR.findall(features.prompt.folded)]
    now = datetime.fromtimestamp(features.interaction.event_time_ms / 1000, UTC).year
    return not (years and max(years) < now)


def figures_of(text: str) -> tuple[str, ...]:
    """Return the numbers, months and days the folded `text` states, separators removed.

    Examples
    --------
    >>> figures_of("$4,200,000 on march 3rd")
    ('4200000', '3', 'march')
    """
    numbers = (number.replace(",", "").rstrip(".") for number in _FIGURE.findall(text))
    return (*numbers, *_MONTH_OR_DAY.findall(text))


def contradicted(features: Features) -> list[Sentence] | None:
    """Return the sentences that state other figures than the reference answer; None if none do."""
    reference = features.interaction.annotations.reference_answer
    if not reference:
        return None
    known = set(figures_of(features.known.folded)) | set(figures_of(features.prompt.folded))
    wanted = set(figures_of(features.known.folded))
    if not wanted or wanted & set(figures_of(features.response.folded)):
        return None
    wrong = [
        sentence
        for sentence in features.response.sentences
        if not sentence.has("hedge", "courtesy") and set(figures_of(sentence.text)) - known
    ]
    return wrong or None
