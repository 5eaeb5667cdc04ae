import concurrent.futures

import pytest

from lora_jax.evaluation.graders.verifier import Verifier


@pytest.fixture(scope="module")
def verifier():
    verifier = Verifier(seconds=1)
    yield verifier
    verifier.close()


def test_it_may_be_asked_from_many_threads(verifier):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        verdicts = pool.map(lambda i: verifier.equal(f"${i}$", f"${i % 5}.0$"), range(20))
    assert list(verdicts) == [i < 5 for i in range(20)]


@pytest.mark.parametrize("endless", ["$9^{9^{9^{9^9}}}$", "$3^{10^9}$", "$(10^{8})!$"])
def test_a_question_without_end_is_given_up_and_the_next_is_answered(verifier, endless):
    assert not verifier.equal(endless, "$2$")
    assert verifier.equal("$2$", "$2$")


def test_a_process_that_died_is_replaced(verifier):
    verifier._process.kill()
    verifier._process.wait()
    assert verifier.equal("$2$", "$2$")
