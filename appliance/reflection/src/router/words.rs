//! The words that the router's rules look for, folded.

/// Languages.
#[rustfmt::skip]
pub const LANGUAGES: &[&str] = &[
    "english", "spanish", "french", "german", "italian", "portuguese", "latin", "japanese", "chinese",
    "russian", "arabic", "korean", "dutch", "greek", "catalan", "basque", "galician", "ingles", "espanol",
    "castellano", "frances", "aleman", "italiano", "portugues", "japones", "chino", "ruso", "arabe",
    "coreano", "holandes", "griego", "euskera", "gallego",
];
/// Programming languages and their like.
#[rustfmt::skip]
pub const PROGRAMMING: &[&str] = &[
    "python", "javascript", "typescript", "java", "rust", "golang", "kotlin", "swift", "php", "ruby", "perl",
    "sql", "html", "css", "bash", "regex", "powershell", "json", "yaml", "xml", "django", "react", "numpy",
    "pandas", "docker", "git", "linux", "code", "codigo", "api", "script",
];
/// Small numbers.
#[rustfmt::skip]
pub const NUMBERS: &[&str] = &[
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve", "fifteen",
    "twenty", "single", "un", "una", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve",
    "diez", "doce", "quince", "veinte", "sola",
];
/// What is counted in an answer.
#[rustfmt::skip]
pub const COUNTED: &[&str] = &[
    "word", "words", "sentence", "sentences", "paragraph", "paragraphs", "bullet", "bullets", "lines",
    "items", "sections", "letters", "characters", "columns", "rows", "points", "palabra", "palabras", "frase",
    "frases", "oracion", "oraciones", "parrafo", "parrafos", "vinetas", "lineas", "secciones", "letras",
    "caracteres", "columnas", "filas", "puntos", "versos",
];
/// Forms that an answer may have to have.
#[rustfmt::skip]
pub const FORMS: &[&str] = &[
    "bulleted list", "bullet points", "bullet list", "numbered list", "as a list", "in a list",
    "one per line", "separated by commas", "comma separated", "json", "in capital", "all capital",
    "capital letters", "in capitals", "uppercase", "lowercase", "in lower case", "in upper case", "ends with",
    "end with", "starts with", "start with", "begins with", "begin with", "without the", "without using",
    "do not use", "don t use", "as a table", "make a table", "a table with", "include the word",
    "must contain", "postscript", "at most", "at least", "no more than", "fewer than", "less than",
    "con vinetas", "lista numerada", "uno por linea", "una por linea", "separados por", "separadas por",
    "en mayusculas", "en minusculas", "termine con", "termina con", "empiece por", "empiece con",
    "empieza por", "empieza con", "comience con", "sin usar", "sin comas", "no uses", "una tabla",
    "incluye la palabra", "como maximo", "al menos", "no mas de", "menos de", "nothing else",
    "answer only with", "responde solo con", "yes or no", "si o no",
];
/// Words of creative requests.
#[rustfmt::skip]
pub const CREATIVE: &[&str] = &[
    "poem", "poems", "story", "stories", "haiku", "song", "songs", "lyrics", "joke", "jokes", "limerick",
    "novel", "dialogue", "slogan", "slogans", "imagine", "invent", "compose", "sonnet", "riddle", "tale",
    "fable", "character", "rap", "verse", "tagline", "motto", "poema", "poemas", "cuento", "cuentos",
    "cancion", "canciones", "chiste", "chistes", "novela", "dialogo", "eslogan", "lema", "imagina", "inventa",
    "compon", "soneto", "adivinanza", "fabula", "personaje", "relato", "estrofa", "cumpleanos", "birthday",
];
/// How small talk begins.
#[rustfmt::skip]
pub const GREETINGS: &[&str] = &[
    "hello", "hi", "hey", "thanks", "thank", "bye", "goodbye", "ok", "okay", "lol", "haha", "cool", "great",
    "nice", "wow", "sorry", "welcome", "yes", "yo", "good", "hola", "gracias", "muchas", "adios", "vale",
    "encantado", "encantada", "perdon", "genial", "buenas", "buenos", "saludos", "jaja", "hasta",
];
/// Forms that take more than a sentence.
#[rustfmt::skip]
pub const LONG_FORMS: &[&str] = &[
    "paragraphs", "paragraph", "parrafos", "parrafo", "sections", "secciones", "table", "tabla",
];
/// Words that may stand before what a request begins with.
#[rustfmt::skip]
pub const COURTESIES: &[&str] = &[
    "please", "por", "favor", "can", "could", "you", "puedes", "podrias", "hey", "hi", "hola", "now", "ok",
    "i", "want", "to", "quiero", "que",
];
/// Beginnings of requests that end in a language.
#[rustfmt::skip]
pub const SAID_IN: &[&str] = &[
    "say", "put this", "put that", "turn this", "pasa", "di", "write this", "pon esto", "express this",
];
/// What code looks like.
#[rustfmt::skip]
pub const CODE_SIGNS: &[&str] = &[
    "print(", "=>", "();", "def ", "append(", "#include", "SELECT ", "console.log", "</", "{}", "[a-z]",
    "range(", "fn ", "import ",
];
/// What one asks about a programming language.
#[rustfmt::skip]
pub const ABOUT_CODE: &[&str] = &[
    "write", "fix", "explain", "create", "implement", "convert", "debug", "sort", "escribe", "corrige",
    "explica", "crea", "implementa", "haz", "ordeno", "how", "como", "code", "codigo", "regex", "make",
    "build", "generate", "genera", "use", "what", "function", "funcion", "return", "returns",
];
/// What stands beside code.
#[rustfmt::skip]
pub const NEAR_CODE: &[&str] = &[
    "code", "codigo", "loop", "bucle", "function", "funcion", "regex", "error", "explain", "explica", "fix",
    "does", "convert",
];
/// Phrases of programmers.
#[rustfmt::skip]
pub const CODE_PHRASES: &[&str] = &[
    "unit test", "binary search", "linked list", "busqueda binaria", "list comprehension", "pull request",
    "source code", "codigo fuente",
];
/// What is programmed.
#[rustfmt::skip]
pub const PROGRAMS: &[&str] = &[
    "function", "funcion", "method", "metodo", "algorithm", "algoritmo", "class", "clase", "script",
    "program", "programa",
];
/// Orders to program.
#[rustfmt::skip]
pub const PROGRAM_ORDERS: &[&str] = &[
    "write a function", "write a method", "write a program", "implement", "implementa", "escribe una funcion",
    "escribe un programa", "haz un script", "write an algorithm", "create a function", "crea una funcion",
];
/// Words beside which JSON is no form of answer.
#[rustfmt::skip]
pub const DATA_USED: &[&str] = &[
    "python", "javascript", "java", "parse", "function", "funcion", "code", "codigo",
];
/// Orders to change a given sentence.
#[rustfmt::skip]
pub const REWRITES: &[&str] = &[
    "correct", "rewrite", "rephrase", "paraphrase", "proofread", "fix the", "fix this", "shorten", "reword",
    "edit", "improve", "simplify this", "simplify the", "corrige", "reescribe", "parafrasea", "acorta",
    "revisa", "mejora", "reformula", "simplifica", "make this", "make the", "make it", "change this",
    "change the", "turn this", "turn the", "convert this", "convert the", "put this", "put the", "haz esta",
    "haz este", "haz mas", "pon esta", "pon este", "pon la", "convierte en", "convierte esta", "cambia",
    "pasa esta", "expresa", "transforma", "combine", "une",
];
/// Orders for lists.
#[rustfmt::skip]
pub const LIST_ORDERS: &[&str] = &[
    "list", "name", "give", "enumera", "nombra", "da", "dame", "write", "escribe",
];
/// Questions for an amount.
#[rustfmt::skip]
pub const AMOUNTS: &[&str] = &[
    "how many", "how much", "how far", "how long", "how old", "what is the total",
];
/// Orders to compute.
#[rustfmt::skip]
pub const SOLVES: &[&str] = &[
    "solve", "resuelve", "calculate", "calcula", "compute", "despeja", "find x",
];
/// Numbers in disguise.
#[rustfmt::skip]
pub const PARTS: &[&str] = &[
    "half", "twice", "double", "third", "quarter", "mitad", "doble", "triple", "tercio", "dozen", "docena",
];
/// Phrases of creative requests.
#[rustfmt::skip]
pub const CREATIVE_PHRASES: &[&str] = &[
    "names for", "nombres para", "come up with", "once upon a time", "erase una vez", "message for",
    "mensaje de", "mensaje para", "a world", "un mundo",
];
/// Small talk.
#[rustfmt::skip]
pub const SMALL_TALK: &[&str] = &[
    "how are you", "who are you", "your name", "your day", "nice to meet", "see you", "good morning",
    "good night", "good afternoon", "help me", "que tal", "buenos dias", "buenas noches", "buenas tardes",
    "como te llamas", "quien eres", "como estas", "hasta luego", "estoy triste", "estoy feliz",
    "estoy contento", "de conocerte", "me puedes ayudar", "puedes ayudarme", "what can you do",
    "que puedes hacer",
];
/// How requests for an explanation begin.
#[rustfmt::skip]
pub const OPEN_BEGINNINGS: &[&str] = &[
    "explain", "describe", "compare", "discuss", "why", "tell me about", "how does", "how do", "how can",
    "how should", "how would", "how to", "what should", "what can", "what would", "give me some",
    "give me advice", "give me tips", "explica", "explicame", "compara", "analiza", "analyse", "analyze",
    "por que", "hablame", "como funciona", "como puedo", "como se", "que puedo", "que deberia",
    "dame consejos", "dame ideas", "dame algunos", "outline", "argue", "suggest", "sugiere", "recommend",
    "recomienda",
];
/// Words of requests for an explanation.
#[rustfmt::skip]
pub const OPEN_WORDS: &[&str] = &[
    "advantages", "disadvantages", "pros", "cons", "causes", "difference", "differences", "advice", "ideas",
    "ventajas", "desventajas", "causas", "diferencia", "diferencias", "consejos", "tips", "benefits",
    "beneficios", "effects", "efectos", "why", "reasons", "razones", "steps", "pasos", "history", "historia",
];
/// How questions with a short answer begin.
#[rustfmt::skip]
pub const CLOSED_BEGINNINGS: &[&str] = &[
    "who", "when", "where", "which", "what", "is", "are", "was", "were", "does", "do", "did", "can", "has",
    "have", "how many", "how much", "how old", "how long", "how far", "how tall", "how big", "true or",
    "name the", "name a", "name an", "in which", "in what", "on which", "whose", "quien", "quienes", "cuando",
    "donde", "cual", "cuales", "que", "es", "son", "fue", "hay", "tiene", "cuantos", "cuantas", "cuanto",
    "verdadero", "nombra el", "nombra la", "nombra un", "nombra una", "en que", "de que", "a que", "puede",
    "existe", "di el", "di la", "dime el", "dime la",
];
