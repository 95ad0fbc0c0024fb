//! Units and how they convert.

use super::number::Rational;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quantity {
    Length,
    Mass,
    Time,
    Volume,
    Data,
    Count,
    Temperature,
    Calendar,
}

/// A unit: how many of the smallest one it is, exactly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit {
    names: &'static [&'static str],
    /// Its name for one and for many, in English and Spanish.
    pub english: (&'static str, &'static str),
    pub spanish: (&'static str, &'static str),
    pub quantity: Quantity,
    num: i128,
    den: i128,
}

const fn unit(
    names: &'static [&'static str],
    english: (&'static str, &'static str),
    spanish: (&'static str, &'static str),
    quantity: Quantity,
    num: i128,
    den: i128,
) -> Unit {
    Unit {
        names,
        english,
        spanish,
        quantity,
        num,
        den,
    }
}

use Quantity::{Calendar, Count, Data, Length, Mass, Temperature, Time, Volume};

/// Months have no length in days, and ounces and gallons several: they are not here, or only with the meaning most have.
#[rustfmt::skip]
const UNITS: &[Unit] = &[
    unit(&["mm", "millimeter", "millimetre", "milimetro"], ("millimeter", "millimeters"), ("milímetro", "milímetros"), Length, 1, 1),
    unit(&["cm", "centimeter", "centimetre", "centimetro"], ("centimeter", "centimeters"), ("centímetro", "centímetros"), Length, 10, 1),
    unit(&["dm", "decimeter", "decimetre", "decimetro"], ("decimeter", "decimeters"), ("decímetro", "decímetros"), Length, 100, 1),
    unit(&["m", "meter", "metre", "metro"], ("meter", "meters"), ("metro", "metros"), Length, 1000, 1),
    unit(&["km", "kilometer", "kilometre", "kilometro"], ("kilometer", "kilometers"), ("kilómetro", "kilómetros"), Length, 1_000_000, 1),
    unit(&["inch", "inche", "pulgada"], ("inch", "inches"), ("pulgada", "pulgadas"), Length, 254, 10),
    unit(&["ft", "foot", "feet"], ("foot", "feet"), ("pie", "pies"), Length, 3048, 10),
    unit(&["yd", "yard", "yarda"], ("yard", "yards"), ("yarda", "yardas"), Length, 9144, 10),
    unit(&["mi", "mile", "milla"], ("mile", "miles"), ("milla", "millas"), Length, 1_609_344, 1),
    unit(&["mg", "milligram", "miligramo"], ("milligram", "milligrams"), ("miligramo", "miligramos"), Mass, 1, 1000),
    unit(&["g", "gram", "gramo"], ("gram", "grams"), ("gramo", "gramos"), Mass, 1, 1),
    unit(&["kg", "kilogram", "kilo", "kilogramo"], ("kilogram", "kilograms"), ("kilogramo", "kilogramos"), Mass, 1000, 1),
    unit(&["tonne", "tonelada"], ("tonne", "tonnes"), ("tonelada", "toneladas"), Mass, 1_000_000, 1),
    unit(&["lb", "pound", "libra"], ("pound", "pounds"), ("libra", "libras"), Mass, 45_359_237, 100_000),
    unit(&["ms", "millisecond", "milisegundo"], ("millisecond", "milliseconds"), ("milisegundo", "milisegundos"), Time, 1, 1000),
    unit(&["s", "sec", "second", "segundo"], ("second", "seconds"), ("segundo", "segundos"), Time, 1, 1),
    unit(&["min", "minute", "minuto"], ("minute", "minutes"), ("minuto", "minutos"), Time, 60, 1),
    unit(&["h", "hr", "hour", "hora"], ("hour", "hours"), ("hora", "horas"), Time, 3600, 1),
    unit(&["day", "dia"], ("day", "days"), ("día", "días"), Time, 86_400, 1),
    unit(&["week", "semana"], ("week", "weeks"), ("semana", "semanas"), Time, 604_800, 1),
    unit(&["ml", "milliliter", "millilitre", "mililitro"], ("milliliter", "milliliters"), ("mililitro", "mililitros"), Volume, 1, 1),
    unit(&["cl", "centiliter", "centilitre", "centilitro"], ("centiliter", "centiliters"), ("centilitro", "centilitros"), Volume, 10, 1),
    unit(&["l", "liter", "litre", "litro"], ("liter", "liters"), ("litro", "litros"), Volume, 1000, 1),
    unit(&["bit"], ("bit", "bits"), ("bit", "bits"), Data, 1, 1),
    unit(&["byte"], ("byte", "bytes"), ("byte", "bytes"), Data, 8, 1),
    unit(&["dozen", "docena"], ("dozen", "dozens"), ("docena", "docenas"), Count, 12, 1),
    unit(&["unit", "unidad", "egg", "huevo"], ("unit", "units"), ("unidad", "unidades"), Count, 1, 1),
    unit(&["month", "mes"], ("month", "months"), ("mes", "meses"), Calendar, 1, 1),
    unit(&["year", "ano"], ("year", "years"), ("año", "años"), Calendar, 12, 1),
    unit(&["decade", "decada"], ("decade", "decades"), ("década", "décadas"), Calendar, 120, 1),
    unit(&["century", "centurie", "siglo"], ("century", "centuries"), ("siglo", "siglos"), Calendar, 1200, 1),
    unit(&["celsiu", "centigrado"], ("degree Celsius", "degrees Celsius"), ("grado Celsius", "grados Celsius"), Temperature, 1, 1),
    unit(&["fahrenheit"], ("degree Fahrenheit", "degrees Fahrenheit"), ("grado Fahrenheit", "grados Fahrenheit"), Temperature, 5, 9),
];

/// The unit a folded word names.
pub(crate) fn find(word: &str) -> Option<&'static Unit> {
    let named = |name: &str| UNITS.iter().find(|unit| unit.names.contains(&name));
    named(word)
        .or_else(|| word.strip_suffix('s').filter(|one| one.len() > 1).and_then(named))
        .or_else(|| {
            word.strip_suffix("es")
                .filter(|one| one.len() > 2)
                .and_then(named)
        })
}

/// Whether a folded word is a unit that converts into others; one that counts things is none.
pub(crate) fn is_unit(word: &str) -> bool {
    matches!(
        word,
        "cent"
            | "cents"
            | "centavo"
            | "centavos"
            | "centimos"
            | "foot"
            | "ounce"
            | "ounces"
            | "oz"
            | "gallon"
            | "gallons"
            | "cup"
            | "cups"
            | "pie"
            | "pies"
    ) || find(word).is_some_and(|unit| unit.quantity != Count)
}

/// Whether two folded words name the same unit.
pub(crate) fn same(a: &str, b: &str) -> bool {
    match (find(a), find(b)) {
        (Some(a), Some(b)) => a.english == b.english,
        _ => a.trim_end_matches('s') == b.trim_end_matches('s'),
    }
}

/// How many `to` so many `from` are.
pub(crate) fn convert(amount: Rational, from: &Unit, to: &Unit) -> Option<Rational> {
    if from.quantity != to.quantity {
        return None;
    }
    if from.quantity == Temperature {
        let zero = Rational::whole(32);
        return match (from.names[0], to.names[0]) {
            ("fahrenheit", "celsiu") => amount.sub(zero)?.mul(Rational::new(5, 9)?),
            ("celsiu", "fahrenheit") => amount.mul(Rational::new(9, 5)?)?.add(zero),
            _ => None,
        };
    }
    amount
        .mul(Rational::new(from.num, from.den)?)?
        .div(Rational::new(to.num, to.den)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert_words(amount: i128, from: &str, to: &str) -> Option<Rational> {
        convert(Rational::whole(amount), find(from).unwrap(), find(to).unwrap())
    }

    #[test]
    fn conversions_are_exact() {
        assert_eq!(convert_words(3, "hours", "minutes"), Some(Rational::whole(180)));
        assert_eq!(convert_words(5, "km", "metros"), Some(Rational::whole(5000)));
        assert_eq!(
            convert_words(100, "celsius", "fahrenheit"),
            Some(Rational::whole(212))
        );
        assert_eq!(convert_words(1, "inches", "cm"), Rational::new(254, 100));
        assert_eq!(convert_words(2, "docenas", "huevos"), Some(Rational::whole(24)));
        assert_eq!(convert_words(2, "hours", "km"), None);
    }

    #[test]
    fn no_name_has_two_meanings() {
        let mut names: Vec<&str> = UNITS.iter().flat_map(|unit| unit.names).copied().collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
