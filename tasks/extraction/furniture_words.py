"""What surrounds a text, in words of English, German, French, Spanish, Italian, Portuguese, Polish and Dutch sites:
parts of regular expressions, for texts of either case."""

from __future__ import annotations

_TITLE = r"(?: (?:to|on|zu|sur|à|en|a|su|em|do|op) [\"“”„«‘'].{0,60})?"
"""A page's title in quotation marks, as blogs have it behind the number of comments."""
_COMMENTS = "|".join(
    (
        rf"(?:no|\d+) (?:comments?|responses?|repl(?:y|ies))(?: so far| yet)?{_TITLE}(?: »)?",
        r"comments? (?:are |is )?(?:closed|off|disabled)\.?",
        r"(?:leave|post|add|write) (?:a|your) (?:comment|reply|response).{0,24}|be the first to comment\.?",
        rf"(?:keine|\d+) (?:kommentare?|antworten?){_TITLE}",
        r"(?:die )?kommentare?(?: sind)? (?:geschlossen|deaktiviert)\.?",
        r"kommentar (?:verfassen|schreiben|hinzufügen|abgeben|hinterlassen).{0,24}",
        r"(?:schreiben?|hinterlassen?)(?: sie)? einen kommentar.{0,24}",
        rf"(?:aucun|\d+) (?:commentaires?|réponses?){_TITLE}|(?:les )?commentaires (?:sont )?fermés\.?",
        r"(?:laisser|ajouter|écrire|poster) un commentaire.{0,24}",
        rf"(?:sin|no hay|\d+) (?:comentarios?|respuestas?){_TITLE}",
        r"(?:dejar?|escribir?e?|añadir?|agregar?) (?:un|tu) (?:comentario|respuesta).{0,24}",
        rf"(?:nessun|\d+) comment[oi]{_TITLE}|(?:lascia|scrivi|aggiungi) un commento.{{0,24}}",
        rf"(?:nenhum|sem|\d+) comentários?{_TITLE}|(?:deixe|escreva|adicione) (?:um|seu|o seu) comentário.{{0,24}}",
        rf"(?:brak|\d+) komentarz\w*{_TITLE}|(?:dodaj|napisz|zostaw) komentarz.{{0,24}}",
        rf"(?:geen|\d+) reacties?{_TITLE}|(?:geef|plaats) een reactie.{{0,24}}",
    )
)
_SITE = (
    r"(?:share|tweet|print|email|save)(?: this(?: \w+)?)?|skip to (?:main )?content|advertisement|log ?in"
    r"|sign ?(?:in|up)|back to top|(?:previous|next) (?:article|post|story)|read more"
)
_SHARE = (
    r"(?:share|teilen(?: sie dies)?|partager|compartir|condividi|compartilh(?:e|ar)|udostępnij|delen)"
    r"(?: (?:this|on|via|with|mit|auf|per|sur|en|su|con|em|no|na|op)\b[^.!?]{0,20})?\s?:?"
)
_LIKE = (
    r"(?:like this|gefällt mir|j[’']aime|me gusta|mi piace|curtir|lubię to|vind ik leuk)\s?:?"
    r"(?: ?(?:loading|wird geladen|chargement|cargando|caricamento|carregando|wczytywanie|laden)\W{0,4})?"
)
_CREDIT = (
    r"[(\[]?(?:(?:titel|beitrags)?(?:fotos?|bilder?|bildquelle|bildnachweis)|photos?(?: credits?)?|(?:image )?credits?|"
    r"crédits? ?(?:photos?)?|fotografía|foto di|zdjęci[ea]|fot\.)\s?[:©] ?(?:[^.!?]|\b\w\.){0,60}"
)
LINES = f"{_COMMENTS}|{_SITE}|{_SHARE}|{_LIKE}|{_CREDIT}"
"""Lines: about comments, what a site offers, to share, who took a picture."""
OTHERS = "|".join(
    (
        r"related(?: (?:posts?|articles?|stories|news|content|reading|links))?|read next|comments(?: \(?\d+\)?)?",
        r"(?:recent|latest|similar) (?:posts?|articles?|stories|news|comments)|most (?:read|popular|viewed)",
        r"you (?:may|might) (?:also )?like|recommended(?: for you)?|trending(?: now)?",
        r"more (?:from|stories|news|on) .{0,20}",
        r"(?:ähnliche|verwandte|weitere|neueste|aktuelle) (?:beiträge|artikel|meldungen|nachrichten|kommentare)",
        r"das könnte (?:dich|dir|sie|ihnen|euch) auch (?:interessieren|gefallen)|auch interessant|lesen sie auch",
        r"mehr zum thema|meistgelesen|(?:articles?|sujets?) (?:similaires?|liés?|connexes?|récents?)",
        r"sur le même sujet|(?:à )?lire (?:aussi|également)|vous aimerez aussi|les plus lus",
        r"(?:artículos?|noticias|entradas) relacionad[oa]s|(?:también )?te puede interesar|lo más (?:leído|visto)",
        r"articoli (?:correlati|recenti)|leggi anche|i più letti",
        r"potrebbe(?: anche)? interessarti(?: anche)?|(?:artigos|notícias|posts) (?:relacionad[oa]s|recentes)",
        r"(?:veja|leia) também|mais lidas|(?:podobne|powiązane|polecane) (?:artykuły|wpisy)|najczęściej czytane",
        r"(?:czytaj|zobacz) (?:też|także|również)|gerelateerde (?:artikelen|berichten)|lees ook|meest gelezen",
    )
)
"""Headings of lists of other pages."""
ELSEWHERE = "|".join(
    (
        r"read (?:also|more|next)|also read|see also|related|more on this|lesen sie (?:auch|hier|dazu|mehr)|lies auch",
        r"auch (?:interessant|lesenswert|lesen)|mehr (?:dazu|zum thema)|siehe auch|(?:à )?lire (?:aussi|également)",
        r"voir aussi|lea? también|te puede interesar|leggi anche|vedi anche|(?:leia|veja) também|leia mais",
        r"(?:czytaj|zobacz|przeczytaj) (?:też|także|również|więcej)|lees (?:ook|verder|meer)|läs (?:också|även|mer)",
    )
)
"""Beginnings of lines that send readers to another page, also of Swedish sites."""
