from facerep_jax.reporting import reading

RESULTS = {"protocol": "linear_probe", "selection": "validation"}


def of(columns, results=RESULTS, several=True, compared=True):
    return reading.of_evaluation(results, columns, several=several, compared=compared)


def test_only_what_is_in_the_section_is_explained():
    nme = of(["nme_box"])
    assert nme == (reading.METRICS["nme"], reading.METRICS["nme_box"], reading.PROTOCOLS["linear_probe"],
                   reading.SELECTIONS["validation"], reading.SPREAD, reading.INTERVAL)  # fmt: skip
    assert of(["miou"], several=False, compared=False)[0] == reading.METRICS["miou"]
    assert reading.SPREAD not in of(["miou"], several=False)
    assert reading.INTERVAL not in of(["miou"], compared=False)


def test_what_is_not_known_is_left_out():
    assert of(["new"], {"protocol": "new", "selection": "new"}, several=False, compared=False) == ()
