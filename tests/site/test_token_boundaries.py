"""Tokens of a prompt are shown by a tokenizer that gives its very ids, or not at all."""

import json
import subprocess
import sys

from tokenizers import Tokenizer, models, pre_tokenizers

from tests.site.comparison_example import tokenizer
from trimpot.site.token_boundaries import boundaries, load_tokenizers, tokenizer_files

TEXTS = ["one two three", "two three four — ok?", "naïve 漢字 text"]


def words(vocabulary):
    made = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token=vocabulary[0])
    )
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made


def test_characters_between_two_tokens_belong_to_the_second():
    assert boundaries([words(["?", "a", "bc"])], "a bc ", [1, 2]) == [1, 4]


def test_a_beginning_token_stands_for_no_character():
    made = words(["?", "a", "bc"])
    assert boundaries([made], "a bc", [9, 1, 2]) == [0, 1, 3]
    assert boundaries([made], "a bc", [9, 9, 9, 1, 2]) is None


def test_a_tokenizer_that_gives_other_ids_tells_nothing():
    wrong, right = words(["?", "bc", "a"]), words(["?", "a", "bc"])
    assert boundaries([wrong], "a bc", [1, 2]) is None
    assert boundaries([wrong, right], "a bc", [1, 2]) == [1, 3]
    assert boundaries([right], "", []) is None
    assert boundaries([], "a bc", [1, 2]) is None


def test_the_pieces_make_up_the_prompt_even_within_a_character():
    made = tokenizer(TEXTS)
    for text in (*TEXTS, "an unseen 字 ☃\n\n end "):
        lengths = boundaries([made], text, made.encode(text).ids)
        assert sum(lengths) == len(text)
        assert min(lengths) >= 0


def test_where_tokenizers_lie(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def put(path):
        path.parent.mkdir(parents=True)
        words(["?", str(path)]).save(str(path))
        return path.resolve()

    stage = put(tmp_path / "runs/first/sft/model/tokenizer.json")
    other = put(tmp_path / "runs/first/dpo/model/tokenizer.json")
    base = put(tmp_path / "base/tokenizer.json")
    (tmp_path / "runs/first/recipe.yaml").write_text("model: base\nstages: []\n")
    assert tokenizer_files(tmp_path / "runs/first/sft/outcomes.parquet") == [stage, base, other]
    evaluation = tmp_path / "evaluations/one"
    evaluation.mkdir(parents=True)
    (evaluation / "evaluation.json").write_text(json.dumps({"model": {"name": "runs/first/sft"}}))
    assert tokenizer_files(evaluation / "outcomes.parquet") == [stage]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    embedded = put(tmp_path / "cache/trimpot/smollm2-135m-0a1b2c3d/tokenizer.json")
    (evaluation / "evaluation.json").write_text(json.dumps({"model": {"name": "smollm2-135m"}}))
    assert tokenizer_files(evaluation / "outcomes.parquet") == [embedded]
    (evaluation / "evaluation.json").write_text("[]")
    assert tokenizer_files(evaluation / "outcomes.parquet") == []
    assert tokenizer_files(tmp_path / "nowhere/outcomes.parquet") == []


def test_a_file_that_is_no_tokenizer_only_lacks_boundaries(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    words(["?", "a"]).save(str(tmp_path / "b.json"))
    words(["?", "a"]).save(str(tmp_path / "c.json"))
    assert len(load_tokenizers([tmp_path / name for name in ("a.json", "b.json", "c.json")])) == 1


def test_looking_for_a_tokenizer_imports_no_torch(tmp_path):
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage/evaluation.json").write_text(json.dumps({"model": {"name": "smollm2-135m"}}))
    (tmp_path / "recipe.yaml").write_text("model: someone/some-model")
    code = (
        "import sys; from pathlib import Path; from trimpot.site.token_boundaries import tokenizer_files;"
        "tokenizer_files(Path(sys.argv[1])); assert 'huggingface_hub' in sys.modules;"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "stage/outcomes.parquet")], check=True)
