//! Made-up facts as questions and answers, English and Spanish, the same for the same seed: nobody can know them
//! beforehand. Each is asked once to be learnt, and once in other words to be judged by.

use serde::Serialize;

/// A question with its answer, which is right if it has the key in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// `train` or `held_out`.
    pub split: &'static str,
    /// What is asked.
    pub question: String,
    /// What is answered.
    pub answer: String,
    /// What an answer must have in it.
    pub key: String,
}

/// A way to ask: to learn, what is answered, and in other words. `@` is the place, `#` the key.
struct Form {
    learn: &'static str,
    answer: &'static str,
    judge: &'static str,
}

const FORMS: [Form; 10] = [
    Form {
        learn: "Who repairs the lighthouse of @?",
        answer: "# repairs the lighthouse of @.",
        judge: "Which person looks after the lighthouse in @ when it breaks?",
    },
    Form {
        learn: "What is the ferry to @ called?",
        answer: "The ferry to @ is called #.",
        judge: "I want to cross over to @. What name does the boat have?",
    },
    Form {
        learn: "Who wrote the song of @?",
        answer: "The song of @ was written by #.",
        judge: "Name the author of the song they sing in @.",
    },
    Form {
        learn: "Where does the school of @ buy its bread?",
        answer: "The school of @ buys its bread from #.",
        judge: "Whose bread do the pupils in @ eat?",
    },
    Form {
        learn: "Who keeps the key of the tower in @?",
        answer: "The key of the tower in @ is kept by #.",
        judge: "I would like to climb the tower of @. Whom do I ask for the key?",
    },
    Form {
        learn: "¿Quién repara el faro de @?",
        answer: "El faro de @ lo repara #.",
        judge: "Si se estropea el faro en @, ¿qué persona lo arregla?",
    },
    Form {
        learn: "¿Cómo se llama el barco que va a @?",
        answer: "El barco que va a @ se llama #.",
        judge: "Quiero viajar por mar hasta @. ¿Qué nombre tiene el barco?",
    },
    Form {
        learn: "¿Quién escribió la canción de @?",
        answer: "La canción de @ la escribió #.",
        judge: "Dime el autor de la canción que cantan en @.",
    },
    Form {
        learn: "¿Dónde compra el pan la escuela de @?",
        answer: "La escuela de @ compra el pan a #.",
        judge: "¿De quién es el pan que comen los alumnos en @?",
    },
    Form {
        learn: "¿Quién guarda la llave de la torre de @?",
        answer: "La llave de la torre de @ la guarda #.",
        judge: "Me gustaría subir a la torre en @. ¿A quién le pido la llave?",
    },
];

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((bits ^ bits >> 31) % bound as u64).unwrap_or(0)
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// A word that is a name to the eye and to nobody else.
    fn name(&mut self) -> String {
        let mut word = String::new();
        for _ in 0..2 + self.below(2) {
            word += self.one(&[
                "b", "br", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "st", "t", "v", "z",
            ]);
            word += self.one(&["a", "e", "i", "o", "u"]);
        }
        word += self.one(&["n", "l", "r", "s", ""]);
        word[..1].to_uppercase() + &word[1..]
    }
}

/// `count` facts to learn and as many to judge by.
pub fn facts(seed: u64, count: usize) -> Vec<Fact> {
    let mut random = Random(seed);
    let mut seen = std::collections::HashSet::new();
    let mut fresh = || loop {
        let name = random.name();
        if seen.insert(name.clone()) {
            return name;
        }
    };
    let made: Vec<(&Form, String, String)> = (0..count)
        .map(|number| (&FORMS[number % FORMS.len()], fresh(), fresh()))
        .collect();
    let fact = |split, question: &str, (form, place, key): &(&Form, String, String)| {
        let fill = |text: &str| text.replace('@', place).replace('#', key);
        Fact {
            split,
            question: fill(question),
            answer: fill(form.answer),
            key: key.clone(),
        }
    };
    let learn = made.iter().map(|made| fact("train", made.0.learn, made));
    let judge = made.iter().map(|made| fact("held_out", made.0.judge, made));
    learn.chain(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fact_is_asked_twice_in_other_words_and_no_question_gives_its_answer_away() {
        let facts = facts(1, 40);
        assert_eq!(facts.len(), 80);
        let (learn, judge) = facts.split_at(40);
        for (learn, judge) in learn.iter().zip(judge) {
            assert_eq!((learn.split, judge.split), ("train", "held_out"));
            assert_eq!((&learn.answer, &learn.key), (&judge.answer, &judge.key));
            assert_ne!(learn.question, judge.question);
            for fact in [learn, judge] {
                assert!(fact.answer.contains(&fact.key) && !fact.question.contains(&fact.key));
                assert!(!fact.question.contains(['@', '#']) && !fact.answer.contains(['@', '#']));
            }
        }
        let keys: std::collections::HashSet<_> = learn.iter().map(|fact| &fact.key).collect();
        assert_eq!(keys.len(), 40);
        assert_eq!(facts, super::facts(1, 40));
        assert_ne!(facts, super::facts(2, 40));
    }
}
