"""The figures against values computed by hand."""

import unittest

import figures


def finding(checker):
    return {"checker": checker, "place": {"kind": "whole"}, "sentence": ""}


def record(draft, loop, found=(), left=(), iterations=1, confidence=0.5, seconds=(1.0, 1.0), **more):
    return {
        "id": "a",
        "kind": "closed",
        "language": "en",
        "half": "held_out",
        "usually_right": False,
        "draft": {
            "answer": "x",
            "right": draft,
            "seconds": seconds[0],
            "omni_loop": {"remaining": [finding(f) for f in found]},
        },
        "loop": {
            "answer": "x",
            "right": loop,
            "seconds": seconds[1],
            "omni_loop": {"iterations": iterations, "confidence": confidence, "remaining": [finding(f) for f in left]},
        },
        **more,
    }


class Confidence(unittest.TestCase):
    def test_auroc(self):
        # Pairs of a right and a wrong one: 0.8>0.6, 0.8>0.2, 0.4<0.6, 0.4>0.2: three of four.
        self.assertEqual(figures.auroc([0.8, 0.6, 0.4, 0.2], [1, 0, 1, 0]), 0.75)
        self.assertEqual(figures.auroc([0.9, 0.1], [1, 0]), 1.0)
        self.assertEqual(figures.auroc([0.9, 0.1], [0, 1]), 0.0)
        # Ties are halves: (½ + 1) of two pairs.
        self.assertEqual(figures.auroc([0.5, 0.5, 0.1], [1, 0, 0]), 0.75)
        self.assertEqual(figures.auroc([0.5] * 4, [1, 0, 1, 0]), 0.5)
        self.assertIsNone(figures.auroc([0.5, 0.6], [1, 1]))

    def test_calibration_error(self):
        # Bin 0.9: two, mean 0.95, half right: 0.45. Bin 0.2: two, mean 0.25, none right: 0.25. Weighed: 0.35.
        self.assertAlmostEqual(figures.calibration_error([0.93, 0.97, 0.24, 0.26], [1, 0, 0, 0]), 0.35)
        self.assertAlmostEqual(figures.calibration_error([1.0, 1.0], [1, 1]), 0.0)
        # Errors of different direction in different bins do not cancel.
        self.assertAlmostEqual(figures.calibration_error([0.05, 0.95], [1, 0]), 0.95)
        self.assertIsNone(figures.calibration_error([], []))

    def test_bins(self):
        rows = figures.reliability([0.0, 0.05, 0.1, 1.0], [0, 1, 1, 1])
        self.assertEqual([(low, count) for low, count, _, _ in rows], [(0.0, 2), (0.1, 1), (0.9, 1)])


class Summary(unittest.TestCase):
    RECORDS = [
        record(True, True),  # clean, ends at the draft
        record(True, False, iterations=3, seconds=(1.0, 4.0)),  # clean, reflected, harmed
        record(False, True, found=["length"], iterations=2, seconds=(2.0, 3.0)),  # detected, mended, right
        record(False, False, found=["length", "form"], left=["form"], iterations=3),  # detected, one kind left
        record(False, False, found=["form"], iterations=2),  # detected, mended, wrong
        record(True, True, draft_failed=True),
        record(True, True),  # not finished
    ]
    RECORDS[5]["loop"] = {"error": "TimeoutError"}
    RECORDS[6]["loop"] = None

    def test_counts(self):
        f = figures.summary(self.RECORDS)
        wanted = {
            "items": 6, "failed": 1, "pairs": 5, "draft_right": 2, "loop_right": 2, "wrong_to_right": 1,
            "right_to_wrong": 1, "detected": 3, "detected_of_wrong": 3, "mended": 2, "mended_right": 1, "clean": 2,
            "clean_early": 1, "early": 1, "iterations": 2.2, "draft_seconds": 1.2, "loop_seconds": 2.0,
        }  # fmt: skip
        self.assertEqual({name: f[name] for name in wanted}, wanted)
        self.assertAlmostEqual(f["time_ratio"], 2.0 / 1.2)

    def test_findings_of_the_loops_own_steps_come_first(self):
        told = record(True, True, found=["form"])
        told["loop"]["omni_loop"]["timings"] = {"iterations": [{"findings": []}]}
        self.assertFalse(figures.detected(told))
        told["loop"]["omni_loop"]["timings"] = {"iterations": [{"phase": "draft"}]}
        self.assertTrue(figures.detected(told))
        told["loop"]["omni_loop"]["steps"] = [{"findings": [finding("length")]}]
        self.assertEqual(figures.draft_findings(told)[0]["checker"], "length")

    def test_promises(self):
        f = figures.all_figures(self.RECORDS)
        state = {promise["name"]: promise["held"] for promise in f["promises"]}
        self.assertEqual(state["detected errors returned without it"], False)  # 2 of 3
        self.assertEqual(state["of those, really right"], False)  # 1 of 2
        self.assertEqual(state["right → wrong, of right drafts"], False)  # 1 of 2
        self.assertEqual(state["clean requests that end at the draft"], False)  # 1 of 2
        self.assertEqual(f["unfinished"], 1)
        nothing = figures.all_figures([record(True, True)])
        state = {promise["name"]: promise["held"] for promise in nothing["promises"]}
        self.assertIsNone(state["of those, really right"])
        self.assertTrue(state["right → wrong, of right drafts"])
        self.assertTrue(state["time, loop ÷ draft"])
        self.assertIsNone(state["AUROC of the confidence, held out"])

    def test_what_a_busy_machine_does(self):
        busy = [record(True, True), record(True, True), record(True, True)]
        busy[0]["draft"]["omni_loop"]["fallback"] = True
        busy[1]["loop"]["omni_loop"]["stopped"] = "deadline"
        busy[2]["loop"]["answer"] = "y"
        f = figures.all_figures(busy)
        self.assertEqual((f["fallback"], f["cut_short"], f["drafts_that_differ"]), (1, 1, 1))

    def test_peer(self):
        turns = [{"answer": "x", "seconds": s} for s in (1.0, 2.0, 3.0)]
        records = [
            record(True, True, seconds=(1.0, 1.0), peer={"turns": turns, "right": True}),
            record(True, True, iterations=2, seconds=(1.0, 2.0), peer={"turns": turns, "right": False}),
            record(True, True, peer={"turns": [], "error": "x"}),
        ]
        f = figures.peer(records)
        self.assertEqual((f["failed"], f["right"], f["all"]["items"]), (1, 1, 2))
        self.assertAlmostEqual(f["all"]["ratio"], 3 / 12)
        self.assertAlmostEqual(f["same_turns"]["ratio"], 3 / (1 + 3))
        self.assertAlmostEqual(f["reflected"]["ratio"], 2 / 3)
        state = {p["name"]: p["held"] for p in figures.all_figures(records)["promises"]}
        self.assertTrue(state[figures.PEER_PROMISE[0]])


if __name__ == "__main__":
    unittest.main()
