//! The words of Spanish, and what they mean to the rules.

use std::sync::LazyLock;

use super::lexicon::role;
use super::{Tongue, Unit};

/// Beginnings of verbs that ask for a text.
pub(super) const WRITES: &str =
    "escrib redact describ explic expliqu resum respond contest cuent cont compar recom sugier
    propon invent defin enumer nombr muestr mostr devuelv gener crea compon present habl traduc
    clasific elabor narr desarroll reescrib invit list argument compong opin expon";

/// Verbs of that kind that are too short to be beginnings.
pub(super) const SHORT: &str =
    "di dime diga digame dinos da dame danos deme haz hazme haga hagame hacer hagas decir decirme
    darme dar des digas pon ponga poner pongas ponme";

/// Beginnings of other commands.
pub(super) const DOES: &str =
    "super exced sobrepas us utilic utiliz emple inclu mencion evit limit empiez empez empiec comienz comienc comenz
    termin acab finaliz concluy anad agreg asegur repit repet envuelv encierr manten elig elij
    contien procur omit cierr form";

/// Ends of words that are no commands.
pub(super) const NOT_COMMANDS: &str =
    "o aron ieron ndo aba aban ia ian ada ida adas idas ados idos cion ciones nte ntes mente or
    ores ura uras";

pub(super) const LANGUAGES: &[(&str, Tongue)] = &[
    ("ingles", Tongue::English),
    ("espanol", Tongue::Spanish),
    ("castellano", Tongue::Spanish),
    ("frances", Tongue::French),
    ("aleman", Tongue::German),
    ("italiano", Tongue::Italian),
    ("portugues", Tongue::Portuguese),
];

pub(super) const UNITS: &[(&str, Unit)] = &[
    ("palabra", Unit::Words),
    ("palabras", Unit::Words),
    ("frase", Unit::Sentences),
    ("frases", Unit::Sentences),
    ("oracion", Unit::Sentences),
    ("oraciones", Unit::Sentences),
    ("parrafo", Unit::Paragraphs),
    ("parrafos", Unit::Paragraphs),
    ("linea", Unit::Lines),
    ("lineas", Unit::Lines),
    ("verso", Unit::Lines),
    ("versos", Unit::Lines),
    ("renglon", Unit::Lines),
    ("renglones", Unit::Lines),
    ("vineta", Unit::Bullets),
    ("vinetas", Unit::Bullets),
    ("puntos", Unit::Bullets),
    ("seccion", Unit::Sections),
    ("secciones", Unit::Sections),
    ("apartado", Unit::Sections),
    ("apartados", Unit::Sections),
    ("caracter", Unit::Characters),
    ("caracteres", Unit::Characters),
];

/// Things an answer can be.
pub(super) const TEXTS: &str =
    "respuesta contestacion salida texto mensaje cuento historia poema ensayo carta correo email
    resumen articulo parrafo frase oracion descripcion haiku explicacion tuit discurso chiste
    cancion nota resena biografia informe dialogo lema eslogan invitacion adivinanza anuncio
    receta relato felicitacion plantilla redaccion introduccion definicion fabula oda verso
    saludo";

/// What may stand between a number and what it counts, or after it.
pub(super) const ADJECTIVES: &str =
    "cortas cortos breves completas completos sencillas claras largas unicas distintas diferentes
    claves clave breve corta corto sencilla simples";

/// What other words mean to a rule.
pub(super) const ROLES: &[(u64, &str)] = &[
    (role::WRITES | role::COMMAND, SHORT),
    (role::TEXT, TEXTS),
    (role::ANSWER, "respuesta contestacion salida"),
    (
        role::CODE,
        "funcion programa codigo consulta regex clase metodo algoritmo macro formula python
         javascript sql html css script",
    ),
    (
        role::ABOUT,
        "unas unos aproximadamente alrededor cerca casi aprox sobre",
    ),
    (
        role::MAKES,
        "escribe escriba crea haz hazme dame genera programa implementa corrige desarrolla",
    ),
    (
        role::HAS,
        "tenga contenga tengan no debe tener ocupe use tiene contener supere sea",
    ),
    (role::FIRST, "primero antes luego despues exactamente"),
    (
        role::SURE,
        "asegurate respuesta quiero pido necesito gustaria quisiera de",
    ),
    (role::EACH, "cada"),
    (
        role::SUBORDINATE,
        "que quien cuyo cuya donde cual como cuando si porque cuanto",
    ),
    (
        role::REPORTED,
        "diciendo pidiendo porque regla ley tuvo tenia exigiendo",
    ),
    (
        role::PART,
        "titulo titulos encabezado encabezados asunto primera primer segunda segundo ultima
         ultimo introduccion conclusion nombres siglas iniciales nombre",
    ),
    (role::WORD, "palabra palabras"),
    (role::NOT, "no nunca sin evita ni tampoco"),
    (
        role::ADVERB,
        "olvides por favor tambien ahora luego solo siempre primero despues ademas finalmente
         simplemente y pero no nunca hola entonces te puedes podrias podes podria puede asi",
    ),
    (role::AND, "y pero luego o e ni"),
    (
        role::MUST,
        "debe debes deben deberia debera puede puedes podrias podria podes deberias tiene ha",
    ),
    (
        role::MUST_TO,
        "tiene tienes quiero necesito gustaria asegurate procura pido ha has debe",
    ),
    (role::TO, "que de"),
    (role::ME, "quiero necesito me quisiera busco"),
    (role::WANT, "quiero necesito gustaria quisiera"),
    (role::A, "un una que tu la el"),
    (role::THE, "tu la el su toda todo entera completa lo"),
    (role::ASKS, "puede debe hay es esta son se"),
    (
        role::WH,
        "que quien donde cuando como cual por cuanto cuantos cuantas para",
    ),
    (
        role::HOW_TO,
        "escribo puedo hago se digo redacto resumo escribir debo palabras frases",
    ),
    (role::VERB, "murieron es son fue era tiene tienen dijo"),
    (role::WITH, "en con usando"),
    (
        role::NARROWS,
        "de del que cada por son fueron siguientes rimen anteriores",
    ),
    (
        role::DEFINITE,
        "las los estas estos esas esos mis sus ambas siguientes primeras ultimas primeros
         ultimos tus",
    ),
    (role::ONE, "un una uno"),
    (role::LETTER_AND, "y o e ni"),
    (
        role::NOT_A_WORD,
        "antes despues otra mas como cuando hasta salvo tales
         de que en y la el los las clave claves anterior siguiente correcta adecuada con por
         para a es exacta dada siguientes anteriores",
    ),
    (role::TIMES, "veces vez"),
    (
        role::EXPLAINS,
        "explica porque luego y justifica por con despues razona segun",
    ),
];

pub(super) fn number(words: &[&str]) -> Option<(u32, usize)> {
    const ONES: &str =
        "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince
         dieciseis diecisiete dieciocho diecinueve veinte veintiuno veintidos veintitres
         veinticuatro veinticinco veintiseis veintisiete veintiocho veintinueve";
    const TENS: &str = "treinta cuarenta cincuenta sesenta setenta ochenta noventa";
    let first = *words.first()?;
    let index = |list: &str, word: &str| {
        list.split_whitespace()
            .position(|w| w == word)
            .and_then(|i| u32::try_from(i).ok())
    };
    match first {
        "un" | "una" => return Some((1, 1)),
        "veintiuna" | "veintiun" => return Some((21, 1)),
        "cien" => return Some((100, 1)),
        "docena" => return Some((12, 1)),
        _ => {}
    }
    if let Some(ones) = index(ONES, first) {
        return Some((ones, 1));
    }
    let tens = (index(TENS, first)? + 3) * 10;
    if words.get(1) == Some(&"y") {
        let ones = match words.get(2) {
            Some(&("un" | "una")) => Some(1),
            Some(word) => index(ONES, word).filter(|ones| (1..=9).contains(ones)),
            None => None,
        };
        if let Some(ones) = ones {
            return Some((tens + ones, 3));
        }
    }
    Some((tens, 1))
}

/// Beginnings of verbs that ask for a text, of other commands, and ends of words that are neither.
static FORMS: LazyLock<[Vec<&str>; 3]> =
    LazyLock::new(|| [WRITES, DOES, NOT_COMMANDS].map(|words| words.split_whitespace().collect()));

/// What a verb form means: any person that asks, by its beginning.
pub(super) fn by_form(word: &str) -> u64 {
    if word.ends_with("mente") {
        return role::ADVERB;
    }
    let [writes, does, others] = &*FORMS;
    let form = |stem: &&str| {
        let ending = word.strip_prefix(*stem);
        ending.is_some_and(|ending| {
            (1..=6).contains(&ending.len()) && !others.iter().any(|end| word.ends_with(end))
        })
    };
    if writes.iter().any(form) {
        role::WRITES | role::COMMAND
    } else if does.iter().any(form) {
        role::COMMAND
    } else {
        0
    }
}
