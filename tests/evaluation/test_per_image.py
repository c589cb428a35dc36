"""Scores of a class keep its name."""

from mlflow.utils.validation import validate_param_and_metric_name

from segbench.evaluation.per_image import class_keys


def test_no_two_classes_have_one_key() -> None:
    assert class_keys(("background", "ひび", "剥離", "鉄筋")) == [
        "background",
        "ひび",
        "剥離",
        "鉄筋",
    ]
    assert class_keys(("background", "a b", "a/b", "a-b")) == [
        "background",
        "a_b_1",
        "a_b_2",
        "a-b",
    ]
    assert class_keys(("?", "!", "#", "é")) == ["__0", "__1", "__2", "é"]
    # Also of a name that looks like one of these.
    assert len(set(class_keys(("x", "a b", "a_b", "a_b_1")))) == 4


def test_mlflow_takes_them_all() -> None:
    for key in class_keys(("背景", "Riß, tief", "ça", "a:b")):
        assert validate_param_and_metric_name(f"test/dice_class_{key}")
