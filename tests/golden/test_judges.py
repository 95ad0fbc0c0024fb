"""The judges by right and wrong answers: every judge must be able to say yes and no."""

import unittest

import judges

TEXT = "Peter has a dog called Bruno and a cat called Mia since 2019 and they live in a small house by the sea."

# For each judge: (parameters, question, right answers, wrong answers).
CASES = {
    "all_of": [
        (
            {"of": [{"name": "word_count", "at_most": 4}, {"name": "contains", "all": ["tea"]}]},
            "",
            ["I like tea.", "Tea!"],
            ["I like coffee.", "I like tea more than coffee."],
        )
    ],
    "word_count": [
        ({"exactly": 3}, "", ["One two three.", "one - two three"], ["One two.", "one two three four", ""]),
        ({"at_least": 2, "at_most": 3}, "", ["a b", "a b c"], ["a", "a b c d"]),
        (
            {"at_most": 5, "about": ["sea", "mar"]},
            "",
            ["The Sea is wide.", "el mar"],
            ["I like dogs.", "The seat is wide."],
        ),
    ],
    "sentence_count": [
        (
            {"exactly": 2},
            "",
            ["It rains. We stay.", "It rains!\n\nWe stay", "Mr. Fox pays 3.50 euros. He goes."],
            ["It rains.", "A b. C d. E f."],
        ),
        ({"at_most": 1}, "", ["It rains, e.g. today.", "¿Qué es?"], ["It rains. It pours."]),
    ],
    "paragraph_count": [
        ({"exactly": 2}, "", ["One.\n\nTwo.", "One.\n \nTwo.\n"], ["One.\nTwo.", "One.\n\nTwo.\n\nThree."]),
    ],
    "bullet_count": [
        (
            {"exactly": 2},
            "",
            ["- a fig\n- a pear", "Fruits:\n* fig\n* pear\n"],
            ["- a fig", "1. fig\n2. pear", "- fig\n- Fig", "-fig\n-pear"],
        ),
    ],
    "numbered_count": [
        (
            {"exactly": 2},
            "",
            ["1. fig\n2. pear", "Fruits:\n\n1) fig\n2) pear"],
            ["1. fig", "- fig\n- pear", "1. fig\n3. pear", "1. fig\n2. Fig"],
        ),
    ],
    "contains": [
        ({"all": ["quiet", "neon"]}, "", ["Neon signs, quiet streets."], ["Neon signs.", "neons and quietness"]),
        ({"all": ["deadline"], "times": 2}, "", ["Deadline? The deadline."], ["The deadline."]),
        ({"all": ["buenos días"]}, "", ["¡Buenos dias, amigo!"], ["Buenas tardes"]),
    ],
    "excludes": [
        (
            {"none": ["sour"], "least_words": 3},
            "",
            ["It has a sourish taste."],
            ["It is sour, very.", "Lemon.", "It is SOUR to me"],
        ),
    ],
    "no_letter": [({"letter": "e", "least_words": 2}, "", ["A dog barks."], ["The dog barks.", "Él va solo.", "No"])],
    "starts_with": [
        (
            {"text": "Well"},
            "",
            ["Well, it is so.", '"Well it is so"'],
            ["It is so, well.", "Wellness is good.", "Well."],
        ),
        ({"text": "¿Qué"}, "", ["¿Qué es la vida?"], ["La vida es sueño."]),
    ],
    "ends_with": [
        (
            {"text": "See you soon"},
            "",
            ["Thanks a lot. See you soon.", "Thanks, see you soon!"],
            ["See you soon, thanks a lot.", "See you soon."],
        ),
        ({"text": "¡Buen provecho!"}, "", ["Come una pera. ¡Buen provecho!"], ["Come una pera."]),
    ],
    "all_capitals": [({}, "", ["PIZZA IS GOOD!", "ÁRBOL 3"], ["Pizza IS GOOD", "PIZZA a"])],
    "all_lower_case": [({}, "", ["it rains.", "así es 3"], ["It rains.", "i like Paris"])],
    "no_commas": [({"least_words": 3}, "", ["It rains and pours."], ["It rains, it pours.", "Rain."])],
    "no_digits": [({"least_words": 2}, "", ["One hundred years."], ["About 100 years.", "Hundred"])],
    "quoted": [
        (
            {"least_words": 2},
            "",
            ['"Learn and grow."', "“Learn and grow.”\n"],
            ["Learn and grow.", '"Learn" and "grow"', '"Learn and grow', '"Learn"'],
        )
    ],
    "language": [
        ({"is": "es"}, "", ["El perro es un animal.", "Un perro es muy fiel."], ["The dog is an animal.", "Perro"]),
        ({"is": "en"}, "", ["A cat is a small animal."], ["Un gato es un animal pequeño.", "12 34 56"]),
    ],
    "title": [
        (
            {},
            "",
            ["The River\n\nIt flows slowly to the sea.", "# The River\nIt flows slowly to the sea."],
            ["It flows slowly to the sea.", "The River", "The river flows.\nIt flows slowly to the sea."],
        ),
        (
            {"wrapped": ["<<", ">>"]},
            "",
            ["<<River>>\nIt flows slowly to the sea."],
            ["River\nIt flows slowly to the sea.", "<<River>>"],
        ),
    ],
    "postscript": [
        (
            {"mark": "P.S."},
            "",
            ["Please be quiet at night.\n\nP.S. Thank you.", "Please come to us. PS: bring wine"],
            ["Please be quiet.", "P.S. Thank you for all.", "Please be quiet at night.\n\nP.S."],
        ),
        (
            {"mark": "P.D."},
            "",
            ["Te quiero mucho, abuela.\nP.D.: Escribe."],
            ["Te quiero mucho, abuela.", "Te quiero mucho, pd. no"],
        ),
    ],
    "placeholders": [
        (
            {"at_least": 2},
            "",
            ["Dear [name], come on [date] please."],
            ["Dear [name], come tomorrow please.", "Dear name, a [link](b) and [x] too.", "[a] [b]"],
        ),
        ({"exactly": 1}, "", ["Dear [name], come tomorrow please."], ["Dear [name], come on [date]."]),
    ],
    "choice": [
        ({"of": ["yes", "no"], "is": "no"}, "", ["No.", "no", "**No**"], ["Yes.", "No, it can't.", "Maybe"]),
        ({"of": ["A", "B"]}, "", ["A", "B)"], ["C", "A or B"]),
        ({"of": ["sí", "no"], "is": "sí", "then_more": True}, "", ["Sí, claro.", "si"], ["No.", "Sincero"]),
    ],
    "repeats_question": [
        (
            {"text": "What is the capital of Italy?"},
            "",
            ["What is the capital of Italy? Rome.", '"What is the capital of Italy?"\n\nIt is Rome.'],
            ["Rome.", "What is the capital of Italy?", "What's the capital of Italy? Rome."],
        ),
    ],
    "table": [
        (
            {"columns": 2, "at_least": 1},
            "",
            ["| a | b |\n|---|---|\n| dog | woof |", "Here:\n\n| a | b |\n| :-- | --: |\n| dog | woof |"],
            ["a, b\ndog, woof", "| a | b |\n| dog | woof |", "| a | b |\n|---|---|\n| dog |", "| a | b |\n|---|---|"],
        ),
    ],
    "separated": [
        (
            {"by": ",", "exactly": 3},
            "",
            ["Mars, Venus, Earth", "Mars, Venus, Earth."],
            [
                "Mars, Venus",
                "Mars,\nVenus,\nEarth",
                "Mars, Mars, Earth",
                "The first planet is called Mars, Venus, Earth",
                "Mars,, Earth",
            ],
        ),
    ],
    "echo": [
        (
            {"text": "The train leaves at noon."},
            "",
            ["The train leaves at noon.", '"The train leaves at noon"'],
            ["The train leaves at ten.", "Sure: The train leaves at noon."],
        )
    ],
    "number": [
        (
            {"compute": "30 + 12"},
            "What is 30 + 12?",
            ["42", "30 + 12 = 42.", "42 is the sum of 30 and 12.", "The answer is **42**."],
            ["41", "30 + 12 = 43", "None", "42? No: 41.", "30 and 12"],
        ),
        ({"compute": "10 - 5"}, "What is 10-5?", ["5", "10 - 5 = 5", "10-5=5"], ["10 - 5 = 6", "10"]),
        (
            {"compute": "1000 + 234"},
            "What is 1000 + 234?",
            ["1,234", "1234", "1.234", "1 234".replace(" ", "\u202f")],
            ["1,235", "234"],
        ),
        ({"compute": "10 / 4"}, "What is 10 / 4?", ["2.5", "2,5", "10 / 4 = 2.50"], ["2", "25"]),
        ({"compute": "10 / 3"}, "What is 10 / 3?", ["3.33", "3.333"], ["3.34", "3"]),
        ({"compute": "5 - 8"}, "What is 5 - 8?", ["-3", "5 - 8 = -3", "−3"], ["3", "5 - 8 = 3"]),
        (
            {"solve": "2*x + 3 = 11"},
            "Solve 2x + 3 = 11.",
            ["x = 4", "2x = 8, so x = 4"],
            ["x = 7", "x = 4, or rather x = 5"],
        ),
        (
            {"compute": "200 * 10 / 100"},
            "What is 10% of 200?",
            ["20", "10% of 200 is 20.", "20 euros"],
            ["2", "10% of 200 is 200."],
        ),
    ],
    "convert": [
        (
            {"value": 3, "from": "km", "to": "m"},
            "How many metres are 3 km?",
            ["3000", "3 km = 3,000 m", "3.000 metros", "3000m"],
            ["300", "3 km"],
        ),
        ({"value": 90, "from": "min", "to": "h"}, "How many hours are 90 minutes?", ["1.5 hours", "1,5"], ["2", "1"]),
    ],
    "weekday": [
        (
            {"from": "Monday", "days": 3},
            "",
            ["Thursday", "If today is Monday, it is Thursday.", "It will be Thursday, three days after Monday."],
            ["Friday", "Monday", "In 3 days", "Thursday or Friday"],
        ),
        ({"from": "martes", "days": 7}, "", ["Será martes."], ["Será miércoles."]),
        ({"of": "2026-06-06"}, "", ["It is a Saturday."], ["It is a Sunday."]),
    ],
    "date": [
        (
            {"from": "2026-03-10", "days": 5},
            "What is 5 days after March 10?",
            ["March 15", "15 March 2026", "5 days after March 10 is March 15th.", "el 15 de marzo", "2026-03-15"],
            ["March 16", "March 10", "March 15, 2025", "15"],
        ),
    ],
    "days_between": [
        (
            {"from": "2026-05-03", "to": "2026-05-13"},
            "How many days from 3 May 2026 to 13 May 2026?",
            ["10 days", "From 3 May to 13 May there are 10 days."],
            ["11 days", "3 May"],
        ),
    ],
    "extract": [
        (
            {"text": TEXT, "expected": [["Bruno"]], "not": ["Mia"]},
            TEXT + " What is the dog's name?",
            ["Bruno", "The dog is called Bruno.", "Peter's dog is Bruno."],
            [
                "Mia",
                "Peter",
                "Bruno and Mia",
                "Bruno, bought in 2020",
                "Bruno, a friend of Carla",
                "It is Bruno on Monday",
                "Bruno at 20:19",
                TEXT,
            ],
        ),
        (
            {"text": TEXT, "expected": [["2019"], ["cat", "Mia"]]},
            TEXT,
            ["A cat, since 2019."],
            ["2019", "Since 1919, the cat."],
        ),
    ],
    "closed": [
        (
            {"accept": ["Paris", "París"], "reject": ["Lyon"]},
            "",
            ["Paris.", "The capital is PARIS.", "Es París"],
            ["Lyon", "Paris or Lyon", "It is not Paris.", "Parisian", " ".join(map(str, range(30))) + " Paris"],
        ),
        ({"accept": ["H2O", "H₂O"]}, "", ["It is H2O.", "H₂O"], ["CO2", "H2O2"]),
    ],
    "yes_no": [
        (
            {"is": "yes"},
            "",
            ["Yes.", "Yes, it is.", "Sí, claro"],
            ["No.", "It is.", "Well, yes", "Yes and that is false"],
        ),
        ({"is": "no"}, "", ["No.", "No, it cannot."], ["Yes.", "Not sure", "No. Yes."]),
    ],
    "json_object": [
        (
            {"keys": ["name", "age"]},
            "",
            ['{"name": "Ann", "age": 3}', '```json\n{"name": "Ann", "age": 3, "x": 1}\n```'],
            [
                '{"name": "Ann"}',
                'Here: {"name": "Ann", "age": 3}',
                '["name", "age"]',
                '{"name": "Ann", "age": 3',
                "{}",
                '{"name": 1, "name": 2, "age": 3}',
            ],
        ),
        ({"values": {"city": ["Rome", "Roma"]}}, "", ['{"city": "Rome"}'], ['{"city": "Paris"}', '{"town": "Rome"}']),
    ],
}

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


class Judges(unittest.TestCase):
    def test_every_judge_says_yes_and_no(self):
        for name, cases in CASES.items():
            for spec, question, right, wrong in cases:
                item = {"judge": {"name": name, **spec}, "messages": [{"role": "user", "content": question}]}
                for answer in right:
                    with self.subTest(judge=name, right=answer):
                        self.assertEqual(judges.judge(item, answer), (True, ""))
                for answer in wrong:
                    with self.subTest(judge=name, wrong=answer):
                        self.assertFalse(judges.judge(item, answer)[0])

    def test_no_judge_is_left_out(self):
        self.assertEqual(set(CASES) | {"json_schema"}, set(judges.JUDGES))

    def test_what_no_judge_lets_pass(self):
        item = {"judge": {"name": "word_count", "at_least": 0}, "messages": []}
        for answer in (
            "",
            None,
            " \n",
            "...",
            "Hi <|im_end|>",
            "so it goes " * 9,
            "It is far, far, far.",
            "It is what it is now.\n" * 3,
            "1." * 9999,
        ):
            self.assertFalse(judges.judge(item, answer)[0], answer)
        self.assertTrue(judges.judge(item, "It is fine.")[0])

    def test_what_is_beside_the_request(self):
        item = {
            "kind": "constraints",
            "language": "es",
            "judge": {"name": "word_count", "at_most": 20},
            "messages": [{"role": "user", "content": "Háblame del agua en no más de 20 palabras, por favor."}],
        }
        self.assertTrue(judges.judge(item, "El agua es un líquido que todos los seres vivos necesitan.")[0])
        for answer in (
            "Hablame del agua en no más de 20 palabras.",
            "The water is a liquid that all of the living things need.",
            "El agua es un líquido sano. El agua es un líquido sano.",
            "El agua de mar, el agua de mar, el agua de mar, el agua",
        ):
            self.assertFalse(judges.judge(item, answer)[0], answer)
        item["messages"][0]["content"] = "Háblame del agua en inglés y en no más de 20 palabras."
        self.assertTrue(judges.judge(item, "The water is a liquid that all of the living things need.")[0])

    def test_json_by_its_schema(self):
        item = {"judge": {"name": "json_schema", "values": {"name": ["Ann"]}}, "messages": []}
        item["response_format"] = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
        self.assertEqual(judges.judge(item, ' {"name": "Ann", "age": 3}\n'), (True, ""))
        for answer in (
            '{"name": "Ann"}',
            '{"name": "Ann", "age": "3"}',
            '{"name": "Ann", "age": 3.5}',
            '{"name": "Ann", "age": -1}',
            '{"name": "", "age": 3}',
            '{"name": "Bob", "age": 3}',
            '{"name": "Ann", "age": true}',
            '{"name": "Ann", "age": 3, "x": 0}',
            '[{"name": "Ann", "age": 3}]',
            '```json\n{"name": "Ann", "age": 3}\n```',
            '{"name": "Ann", "age": NaN}',
        ):
            self.assertFalse(judges.judge(item, answer)[0], answer)
        item["response_format"] = {"type": "json_object"}
        self.assertTrue(judges.judge(item, '{"name": "Ann"}')[0])
        for answer in ('["Ann"]', "Ann", '{"name": "Bob"}'):
            self.assertFalse(judges.judge(item, answer)[0], answer)

    def test_the_validators_keywords(self):
        for schema, right, wrong in (
            ({"enum": ["a", 1]}, ["a", 1], ["b", True, "1"]),
            ({"const": None}, [None], [0, False]),
            ({"type": ["string", "null"]}, ["a", None], [1]),
            (
                {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 2},
                [[1], [1, 2.5]],
                [[], [1, 2, 3], ["1"]],
            ),
            ({"type": "array", "uniqueItems": True}, [[1, 2]], [[1, 1]]),
            ({"type": "string", "pattern": "^a+$", "maxLength": 2}, ["a", "aa"], ["aaa", "b"]),
            ({"type": "number", "maximum": 3}, [3, 1.5], [4, True]),
            ({"anyOf": [{"type": "string"}, {"type": "boolean"}]}, ["a", True], [1]),
            ({"type": "object", "additionalProperties": {"type": "integer"}}, [{"a": 1}], [{"a": "1"}]),
        ):
            for value in right:
                self.assertEqual(judges.invalid(value, schema), "", (schema, value))
            for value in wrong:
                self.assertTrue(judges.invalid(value, schema), (schema, value))
        with self.assertRaises(ValueError):
            judges.invalid(1, {"multipleOf": 2})

    def test_a_judge_without_its_number_is_a_mistake(self):
        with self.assertRaises(ValueError):
            judges.judge({"judge": {"name": "word_count"}, "messages": []}, "a b")
        with self.assertRaises(ValueError):
            judges.exact("__import__('os')")
        with self.assertRaises(ValueError):
            judges.solve("x*x = 4")


if __name__ == "__main__":
    unittest.main()
