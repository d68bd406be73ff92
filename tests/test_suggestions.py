from facerep_jax.suggestions import nearest


def test_the_nearest_word_or_all():
    assert nearest("widht", ("width", "depth")) == "did you mean 'width'?"
    assert nearest("q", ("width", "depth")) == "known: depth, width"
    assert nearest("q", ()) == "known: none"
