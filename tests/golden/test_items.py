"""The set itself: complete, well formed, and no item that its judge lets pass whatever is answered."""

import collections
import hashlib
import unittest

import judges
import run

LEAST = {"constraints": 110, "arithmetic": 60, "extraction": 60, "closed": 60, "format": 20}
FIELDS = {"id", "kind", "language", "messages", "max_tokens", "response_format", "judge", "usually_right", "half"}
ITEMS = run.load_items()


def half_of(name):
    """Which half an item belongs to: a bit of its id's SHA-256, the same for ever."""
    return "held_out" if hashlib.sha256(name.encode()).digest()[11] & 1 else "fit"


def judges_in(spec):
    return [spec["name"]] + [name for part in spec.get("of", []) if isinstance(part, dict) for name in judges_in(part)]


class Items(unittest.TestCase):
    def test_fields(self):
        names = [item["id"] for item in ITEMS]
        self.assertEqual(len(names), len(set(names)))
        asked = [(str(item["messages"]), str(item.get("response_format"))) for item in ITEMS]
        self.assertEqual([text for text, n in collections.Counter(asked).items() if n > 1], [])
        for item in ITEMS:
            with self.subTest(item["id"]):
                self.assertLessEqual(set(item), FIELDS)
                self.assertIn(item["language"], ("en", "es"))
                self.assertTrue(item["id"].startswith(f"{item['kind']}-{item['language']}-"))
                self.assertEqual(item["half"], half_of(item["id"]))
                self.assertEqual(item["messages"][-1]["role"], "user")
                self.assertLessEqual(len(judges.question(item)), 400)
                self.assertTrue(48 <= item["max_tokens"] <= 160)
                self.assertIs(item.get("usually_right", True), True)
                self.assertLessEqual(set(judges_in(item["judge"])), set(judges.JUDGES))
                self.assertEqual("response_format" in item, item["kind"] == "format")

    def test_there_are_enough(self):
        kinds = collections.Counter(item["kind"] for item in ITEMS)
        self.assertEqual(set(kinds), set(run.KINDS))
        for kind, least in LEAST.items():
            self.assertGreaterEqual(kinds[kind], least)
            held_out = sum(item["half"] == "held_out" for item in ITEMS if item["kind"] == kind)
            self.assertTrue(0.4 <= held_out / kinds[kind] <= 0.6, (kind, held_out))
        self.assertGreaterEqual(len(ITEMS), 330)
        self.assertGreaterEqual(sum(item.get("usually_right", False) for item in ITEMS), 100)
        spanish = sum(item["language"] == "es" for item in ITEMS) / len(ITEMS)
        self.assertTrue(0.3 <= spanish <= 0.4, spanish)
        used = {name for item in ITEMS for name in judges_in(item["judge"])}
        self.assertEqual(set(judges.JUDGES) - used, set())

    def test_no_item_is_right_whatever_is_answered(self):
        for item in ITEMS:
            with self.subTest(item["id"]):
                self.assertFalse(judges.judge(item, "")[0])
                self.assertFalse(judges.judge(item, "I do not know, 987 Zzyx; sorry, Zzyx." + " zz Zz," * 20)[0])

    def test_the_stated_answers_are_right(self):
        """Where the judge's parameters have the answer, it lets that pass, and not another item's."""
        for item in ITEMS:
            spec = item["judge"]
            match spec["name"]:
                case "closed":
                    answers = spec["accept"]
                case "extract":
                    answers = [", ".join(alternatives[0] for alternatives in spec["expected"])]
                    source = judges.question(item)
                    for alternatives in spec["expected"]:
                        self.assertTrue(any(judges.has_phrase(spec["text"], one) for one in alternatives), item["id"])
                    self.assertIn(spec["text"], source)
                case "yes_no" | "choice" if "is" in spec:
                    answers = [spec["is"]]
                case "echo":
                    answers = [spec["text"]]
                case "number":
                    wanted = judges.solve(spec["solve"]) if "solve" in spec else judges.exact(spec["compute"])
                    self.assertEqual(wanted.denominator, 1, item["id"])
                    answers = [str(wanted), f"The answer is {wanted}."]
                    self.assertFalse(judges.judge(item, f"It is {wanted + 1}.")[0], item["id"])
                case _:
                    continue
            for answer in answers:
                with self.subTest(item["id"], answer=answer):
                    self.assertEqual(judges.judge(item, answer), (True, ""))

    def test_blocks_ask_each_side_once_and_in_turn(self):
        tasks = run.tasks_of(ITEMS, ["draft", "loop"])
        self.assertEqual(len(tasks), 2 * len(ITEMS))
        self.assertEqual(len({(item["id"], side) for item, side in tasks}), len(tasks))
        self.assertEqual([side for _, side in tasks[:: run.BLOCK]][:5], ["draft", "loop", "loop", "draft", "draft"])


if __name__ == "__main__":
    unittest.main()
