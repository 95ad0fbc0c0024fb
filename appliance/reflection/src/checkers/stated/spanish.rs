//! The words and rules of Spanish. Accents are folded away, as in [`super::tokens`].

use std::sync::LazyLock;

use super::lexicon::Meaning::{self, *};
use super::lexicon::{Lexicon, Tables};
use super::spanish_words::{ADJECTIVES, LANGUAGES, ROLES, TEXTS, UNITS, by_form, number};
use super::{ListKind, Mark};

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
    ("the", "esta este la las el los una un siguiente siguientes"),
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
        Appears,
        "la palabra|frase &quote debe|debera|tiene ?no ?que aparecer|repetirse|figurar
         la palabra|frase *1 debe|debera|tiene ?no ?que aparecer|repetirse|figurar
         la palabra|frase &quote aparezca|figure",
    ),
    (
        Contains,
        "^ @include ?ambas ?todas ?@the ?siguientes @words ?clave ?exacta",
    ),
    (
        ContainsQuoted,
        "^ @include",
    ),
    (
        ContainsIn,
        "que incluya|contenga|use|utilice|mencione|incluyan|contengan|tenga @the ?siguientes @words ?clave ?exacta
         con|incluyendo @the ?siguientes @words ?clave ?exacta",
    ),
    (
        ContainsUsing,
        "usando|utilizando|empleando @the ?siguientes @words ?clave ?exacta",
    ),
    (
        Avoids,
        "no @dont ?nunca ?@the ?siguientes @words ?clave ?exacta
         nunca @dont ?@the ?siguientes @words ?clave ?exacta
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
         debe @begin con|por ?@the ?siguiente ?@words ?exacta",
    ),
    (
        StartsIn,
        "que @begin con|por|diciendo ?@the ?siguiente ?@words ?exacta
         empezando|comenzando con|por ?@the ?siguiente ?@words ?exacta",
    ),
    (
        Ends,
        "^ @finish ?tu|la|el|lo ?@answer|@text ?siempre con|diciendo ?@the ?siguiente ?@words ?exacta
         debe @finish con ?@the ?siguiente ?@words ?exacta",
    ),
    (
        EndsIn,
        "que @finish con|diciendo ?@the ?siguiente ?@words ?exacta
         terminando|acabando con ?@the ?siguiente ?@words ?exacta",
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
        "^ pon|ponga|envuelve|envuelva|envolver|encierra|encerrar|escribe|da *5 en|entre|con comillas ?dobles
         @answer debe|debera|tiene *3 en|entre|con comillas ?dobles
         ^ pon|ponga|envuelve|encierra|escribe|escriba|da *4 entre comillas ?dobles
         @answer debe *3 entre comillas ?dobles",
    ),
    (
        Language,
        "@answer debe|debera|este|tiene ?que ?estar|ser ?escrita completamente|enteramente|integramente|totalmente|solo en &lang
         ^ @reply|escribe|escribeme|habla|hablame ?lo ?todo ?me ?siempre ?solo|unicamente|exclusivamente en ?idioma &lang
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
        "contener|contenga|incluya|lleve|llevar un ?breve titulo
         con|y|incluye|incluya|incluir|anade|agrega|tener|tenga|ponle|pon un ?breve titulo",
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
        "^ @reply con|usando|utilizando alguna|una|uno de ?estas|estos|las|los ?siguientes ?opciones|palabras|alternativas|respuestas
         de|a responder con|usando una|alguna de ?estas|estos|las|los ?siguientes opciones|alternativas|respuestas
         ^ @reply ?solo|unicamente|solamente con ?solo una|uno de ?estas|estos|las|los ?siguientes ?dos|tres|cuatro ?opciones|palabras|etiquetas|respuestas
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
