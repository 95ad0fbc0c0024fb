//! The words and rules of Spanish. Accents are folded away, as in [`super::tokens`].

use std::sync::LazyLock;

use super::lexicon::Meaning::{self, *};
use super::lexicon::{Lexicon, Tables, role};
use super::{ListKind, Mark, Tongue, Unit};

/// Beginnings of verbs that ask for a text.
const WRITES: &str =
    "escrib redact describ explic expliqu resum respond contest cuent cont compar recom sugier
    propon invent defin enumer nombr muestr mostr devuelv gener crea compon present habl traduc
    clasific elabor narr desarroll reescrib invit list argument compong opin expon";
/// Verbs of that kind that are too short to be beginnings.
const SHORT: &str =
    "di dime diga digame dinos da dame danos deme haz hazme haga hagame hacer hagas decir decirme
    darme dar des digas pon ponga poner pongas ponme";
/// Beginnings of other commands.
const DOES: &str =
    "us utilic utiliz emple inclu mencion evit limit empiez empez empiec comienz comienc comenz
    termin acab finaliz concluy anad agreg asegur repit repet envuelv encierr manten elig elij
    contien procur omit cierr form";
/// Ends of words that are no commands.
const NOT_COMMANDS: &str =
    "o aron ieron ndo aba aban ia ian ada ida adas idas ados idos cion ciones nte ntes mente or
    ores ura uras";
const LANGUAGES: &[(&str, Tongue)] = &[
    ("ingles", Tongue::English),
    ("espanol", Tongue::Spanish),
    ("castellano", Tongue::Spanish),
    ("frances", Tongue::French),
    ("aleman", Tongue::German),
    ("italiano", Tongue::Italian),
    ("portugues", Tongue::Portuguese),
];
const UNITS: &[(&str, Unit)] = &[
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
const TEXTS: &str =
    "respuesta contestacion salida texto mensaje cuento historia poema ensayo carta correo email
    resumen articulo parrafo frase oracion descripcion haiku explicacion tuit discurso chiste
    cancion nota resena biografia informe dialogo lema eslogan invitacion adivinanza anuncio
    receta relato felicitacion plantilla redaccion introduccion definicion fabula oda verso
    saludo";
/// What may stand between a number and what it counts, or after it.
const ADJECTIVES: &str =
    "cortas cortos breves completas completos sencillas claras largas unicas distintas diferentes
    claves clave breve corta corto sencilla simples";
const CLASSES: &[(&str, &str)] = &[
    ("answer", "respuesta contestacion salida"),
    ("text", TEXTS),
    (
        "write",
        "escribe escriba escribeme escribir escribas dame deme da redacta redacte haz hazme haga
         cuentame cuenta compon genera crea dime resume explica describe responde contesta
         elabora usa prepara inventa cuentanos explicame",
    ),
    (
        "reply",
        "responde responda contesta conteste respondeme contestame responder contestar di
         respondas contestes",
    ),
    (
        "begin",
        "empieza empiece empezar comienza comience comenzar empieces inicia inicie",
    ),
    (
        "finish",
        "termina termine terminar acaba acabe acabar finaliza finalice finalizar concluye
         concluya concluir cierra termines",
    ),
    (
        "include",
        "incluye incluya incluir menciona mencione mencionar contener usa use usar utiliza
         utilice utilizar emplea emplear contenga incluyas agrega",
    ),
    (
        "dont",
        "uses use usar utilices utilice utilizar emplees emplear menciones mencione mencionar
         incluyas incluya incluir escribas escribir digas diga decir contener contenga aparezca
         aparecer pongas haya",
    ),
    ("the", "la las el los una un siguiente siguientes"),
    ("words", "palabra palabras frase expresion termino terminos"),
];

const COUNTS: &[(Meaning, &str)] = &[
    (
        AtMost,
        "como maximo|mucho ?de # %
         no mas de # %
         maximo ?de # %
         a lo sumo # %
         hasta # %
         limita|limitate|limitala|limitalo|limite *4 a ?un ?maximo ?de # %
         # % como maximo|mucho
         # % o menos
         # % a lo sumo
         # % maximo|max
         # o menos %",
    ),
    (
        Below,
        "menos de # %",
    ),
    (
        AtLeast,
        "al menos # %
         por lo menos # %
         como minimo ?de # %
         no menos de # %
         minimo ?de # %
         # % o mas
         # o mas %
         # % como minimo
         # % minimo",
    ),
    (
        Above,
        "mas de # %
         supere|superar|exceda|exceder|pase|pasar|sobrepase|sobrepasar|rebase|supera|excedas|superes ?de ?las|los # %",
    ),
    (
        Exactly,
        "exactamente|justo|justamente|precisamente # %
         solo|solamente|unicamente|tan # %
         # % exactas|exactos|exactamente|justas",
    ),
    (
        Range,
        "entre # y # %
         entre # % y # %
         de # a # %
         # a|-|o # %
         al menos # % ?y|pero no mas de # %
         al menos # y|pero no mas de # %
         al menos # y|pero como maximo|mucho # %",
    ),
    (
        Bare,
        "en # %
         ^ # % $",
    ),
    (
        One,
        "en ?una|un sola|solo|unica|unico %
         con ?una|un sola|solo|unica|unico %
         una|un sola|solo|unica|unico %",
    ),
    (
        BareWith,
        "con # %
         tener|contener|tenga|contenga|usar|usa|usando|debe # %",
    ),
    (
        BareVerb,
        "^ @write # %",
    ),
    (
        Placeholders,
        "al menos # marcadores|huecos
         # o mas marcadores
         como minimo # marcadores",
    ),
];

const OTHERS: &[(Meaning, &str)] = &[
    (
        Contains,
        "^ @include ?ambas ?todas ?@the ?siguientes @words ?clave",
    ),
    (
        ContainsQuoted,
        "^ @include",
    ),
    (
        ContainsIn,
        "que incluya|contenga|use|utilice|mencione|incluyan|contengan|tenga @the ?siguientes @words ?clave
         con|incluyendo @the ?siguientes @words ?clave",
    ),
    (
        ContainsUsing,
        "usando|utilizando|empleando @the ?siguientes @words ?clave",
    ),
    (
        Avoids,
        "no @dont ?nunca ?@the ?siguientes @words ?clave
         nunca @dont ?@the ?siguientes @words ?clave
         no puede|debe|debes|puedes @dont ?@the @words
         ^ evita|evite|evitar|omite|evitando ?usar|utilizar|mencionar|decir ?@the @words
         evitando ?usar|utilizar|mencionar ?@the @words
         sin ?usar|utilizar|mencionar|decir|emplear|escribir|incluir ?nunca @the @words",
    ),
    (
        AvoidsQuoted,
        "no @dont
         sin usar|utilizar|mencionar|decir|escribir",
    ),
    (
        Letter,
        "sin ?usar|utilizar|emplear la letra
         no @dont ?nunca la letra
         ^ evita ?usar la letra",
    ),
    (
        Starts,
        "^ @begin ?tu|la|el|con ?@answer|@text ?siempre con|por ?@the ?siguiente @words
         ^ @begin ?tu|la|el ?@answer|@text ?siempre con|por|diciendo
         debe @begin con|por ?@the ?siguiente ?@words",
    ),
    (
        StartsIn,
        "que @begin con|por|diciendo ?@the ?siguiente ?@words
         empezando|comenzando con|por ?@the ?siguiente ?@words",
    ),
    (
        Ends,
        "^ @finish ?tu|la|el|lo ?@answer|@text ?siempre con|diciendo ?@the ?siguiente ?@words
         debe @finish con ?@the ?siguiente ?@words",
    ),
    (
        EndsIn,
        "que @finish con|diciendo ?@the ?siguiente ?@words
         terminando|acabando con ?@the ?siguiente ?@words",
    ),
    (
        Upper,
        "en|todo|usa|solo|con ?solo|todo ?letras mayusculas
         en|con|usa|solo|usando ?solo|unicamente letras ?en mayusculas",
    ),
    (
        Lower,
        "en|todo|usa|solo|con ?solo|todo ?letras minusculas
         en|con|usa|solo|usando ?solo|unicamente ?letras ?en minusculas
         sin ?usar ?letras mayusculas",
    ),
    (
        Without(Mark::Commas),
        "sin|ninguna|evita ?ninguna ?usar|utilizar|poner|emplear ?las|ninguna comas|coma
         no @dont ?ninguna comas|coma",
    ),
    (
        Without(Mark::Exclamation),
        "sin ?usar|utilizar ?ningun signos|signo de exclamacion|admiracion
         no @dont ?ningun signos|signo de exclamacion|admiracion
         sin ?usar exclamaciones",
    ),
    (
        Without(Mark::Questions),
        "sin ?usar|utilizar signos|signo de interrogacion
         no @dont signos|signo de interrogacion",
    ),
    (
        Without(Mark::Semicolons),
        "sin ?usar punto y coma",
    ),
    (
        Without(Mark::Punctuation),
        "sin ?usar ?ningun|ninguna ?signos|signo ?de puntuacion",
    ),
    (
        Quoted,
        "^ pon|ponga|envuelve|encierra|escribe|escriba|da *4 entre comillas ?dobles
         @answer debe *3 entre comillas ?dobles",
    ),
    (
        Language,
        "^ @reply|escribe|escribeme|habla|hablame ?lo ?todo ?me ?siempre ?solo|unicamente|exclusivamente en ?idioma &lang
         ^ escribe|da|dame|haz *2 @answer ?solo|unicamente en &lang
         @answer debe|debera|tiene|ha ?que|de estar|ser ?escrita ?solo|completamente|toda en &lang
         ^ @write un|una *2 @text en &lang
         ^ solo|unicamente en &lang $
         ^ en &lang ?por ?favor $",
    ),
    (
        Json,
        "en|como ?un ?formato|objeto json ?valido $
         en|como ?un ?formato|objeto json ?valido con|que|de|y|para
         ^ devuelve|devuelva|genera|responde|contesta|dame|crea|escribe ?solo|unicamente|solamente ?con ?un|el ?objeto json ?valido con|que|de|para
         ^ devuelve|devuelva|genera|responde|contesta|dame|crea|escribe ?solo|unicamente|solamente ?con ?un|el ?objeto json ?valido $",
    ),
    (
        Table,
        "en|como ?una ?forma ?de tabla ?markdown $
         en|como ?una ?forma ?de tabla ?markdown con|que|comparando
         ^ haz|hazme|crea|dame|genera|escribe|muestra|elabora una tabla ?markdown con|de|que|comparativa|comparando",
    ),
    (
        List(ListKind::Bulleted),
        "en|como|con|usa|usando|mediante ?una lista con|de vinetas
         en|con|usa|usando|utiliza|mediante vinetas
         ^ haz|hazme|crea|dame|genera|escribe|elabora una lista con|de vinetas",
    ),
    (
        List(ListKind::Numbered),
        "en|como|con|usa|usando|mediante ?una lista numerada|ordenada
         ^ haz|hazme|crea|dame|genera|escribe|elabora una lista numerada|ordenada",
    ),
    (
        List(ListKind::Any),
        "en|como ?forma ?de ?una lista $",
    ),
    (
        Title,
        "con|y|incluye|incluya|incluir|anade|agrega|tener|tenga|ponle|pon un ?breve titulo",
    ),
    (
        Postscript,
        "anade|anada|anadir|agrega|incluye|incluir|termina|con|escribe|pon *4 posdata|postdata|p.d|pd",
    ),
    (
        YesNo(&["sí", "no"]),
        "^ @reply ?solo|solamente|simplemente|unicamente ?con ?un ?solo ?unicamente si o no
         ^ si o no ?solo $",
    ),
    (
        YesNo(&["verdadero", "falso"]),
        "^ @reply ?solo|solamente|simplemente|unicamente ?con ?solo verdadero o falso
         ^ verdadero o falso $",
    ),
    (
        Options,
        "^ @reply ?solo|unicamente|solamente con ?solo una|uno de ?estas|estos|las|los ?siguientes ?dos|tres|cuatro ?opciones|palabras|etiquetas|respuestas
         ^ @reply solo|solamente|unicamente|exclusivamente ?con ?una ?de
         ^ @reply con solo",
    ),
    (
        OptionsQuoted,
        "^ @reply ?con",
    ),
    (
        Repeat,
        "^ ?primero repite|repita|repetir|copia ?primero ?exactamente la|mi|esta pregunta|peticion|solicitud|consulta",
    ),
];

/// What other words mean to a rule.
const ROLES: &[(u64, &str)] = &[
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
        "por favor tambien ahora luego solo siempre primero despues ademas finalmente
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

/// Beginnings of verbs that ask for a text, of other commands, and ends of words that are neither.
static FORMS: LazyLock<[Vec<&str>; 3]> =
    LazyLock::new(|| [WRITES, DOES, NOT_COMMANDS].map(|words| words.split_whitespace().collect()));

/// What a verb form means: any person that asks, by its beginning.
fn by_form(word: &str) -> u64 {
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

fn number(words: &[&str]) -> Option<(u32, usize)> {
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

/// Spanish.
pub(super) static SPANISH: LazyLock<Lexicon> = LazyLock::new(|| {
    Lexicon::new(&Tables {
        rules: &[COUNTS, OTHERS],
        classes: CLASSES,
        roles: ROLES,
        units: UNITS,
        languages: LANGUAGES,
        adjectives: ADJECTIVES,
        number,
        by_form,
    })
});
