"""The study file: what is accepted, what a mistake says, and the hash."""

from pathlib import Path

import pytest

from prostafed.common.errors import ConfigurationError
from prostafed.common.study import Finetune, Pretrain, parse_study, read_study

MINIMAL = 'name = "tiny"\n[[stage]]\nkind = "pretrain"\nrounds = 2\n'
TUNED = 'name = "tiny"\n[[stage]]\nkind = "finetune"\nrounds = 3\n'
SHA = "0123456789abcdef" * 4
MASKED = "[privacy]\nsecure_aggregation = true\n"
IMAGENET = f'[initial]\nweights = "imagenet"\nsha256 = "{SHA}"\n'


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(text)
    return path


def mistake(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigurationError) as raised:
        read_study(write(tmp_path, text))
    return str(raised.value)


def test_defaults_are_filled_in(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, MINIMAL + '[[stage]]\nkind = "finetune"\nrounds = 3\n'))
    pretrain, finetune = study.stage
    assert isinstance(pretrain, Pretrain)
    assert pretrain.share == ("encoder", "projection")
    assert pretrain.parameters["scale"] == 1.0
    assert isinstance(finetune, Finetune)
    assert finetune.share == ("encoder",)
    assert study.data.sequences == ("t2w", "adc", "hbv")


@pytest.mark.parametrize(
    ("keys", "frozen"),
    [
        ("", [False, False, False]),
        ('mode = "probe"\n', [True, True, True]),
        ('mode = "gradual"\nfrozen_rounds = 2\n', [True, True, False]),
        ('mode = "full"\nlayer_decay = 0.7\nlabels = 0.05\n', [False, False, False]),
    ],
)
def test_the_mode_says_in_which_rounds_the_encoder_is_frozen(tmp_path: Path, keys: str, frozen: list[bool]) -> None:
    (stage,) = read_study(write(tmp_path, TUNED + keys)).stage
    assert isinstance(stage, Finetune)
    assert [stage.freezes_encoder(number) for number in (1, 2, 3)] == frozen


def test_canonical_form_reads_back_to_the_same_hash(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, MINIMAL))
    assert parse_study(study.canonical()).hash() == study.hash()


def test_hash_ignores_how_a_default_is_written_and_sees_every_value(tmp_path: Path) -> None:
    plain = read_study(write(tmp_path, MINIMAL)).hash()
    assert read_study(write(tmp_path, "seed = 0\n" + MINIMAL + "[stage.parameters]\nscale = 1.0\n")).hash() == plain
    assert read_study(write(tmp_path, "seed = 1\n" + MINIMAL)).hash() != plain
    assert read_study(write(tmp_path, MINIMAL + "[stage.parameters]\nscale = 2.0\n")).hash() != plain


def test_what_an_encoder_starts_from_is_part_of_the_hash(tmp_path: Path) -> None:
    mobilenet = '[model]\nencoder = "mobilenet"\n'
    plain = read_study(write(tmp_path, MINIMAL + mobilenet))
    assert (plain.initial.weights, plain.initial.sha256) == ("random", None)
    started = read_study(write(tmp_path, MINIMAL + mobilenet + IMAGENET))
    other = read_study(write(tmp_path, MINIMAL + mobilenet + IMAGENET.replace("0", "f")))
    assert len({plain.hash(), started.hash(), other.hash()}) == 3
    assert parse_study(started.canonical()) == started


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MINIMAL + "roundz = 3\n", ["unknown key 'stage.1.roundz'", "did you mean 'rounds'"]),
        ('nam = "x"\n' + MINIMAL, ["unknown key 'nam'", "did you mean 'name'"]),
        (MINIMAL + "[data]\nspacing = [1.0, 1.0, 1.0]\n", ["unknown key 'data.spacing'", "spacing_mm"]),
        (MINIMAL + "[stage.parameters]\nscal = 3.0\n", ["unknown key 'scal'", "did you mean 'scale'"]),
        (MINIMAL + "[stage.parameters]\nscale = -3.0\n", ["scale must be above 0"]),
        (MINIMAL.replace("2", '"2"'), ["stage.1.rounds", "integer", "'2' (str)"]),
        (MINIMAL.replace("pretrain", "pretran"), ["'kind' is 'pretran'", "'pretrain'"]),
        (MINIMAL + 'method = "condtional"\n', ["unknown method 'condtional'", "did you mean 'conditional'"]),
        (MINIMAL.replace("rounds = 2", ""), ["'stage.1.rounds' is missing"]),
        ('name = "tiny"\n', ["'stage' is missing"]),
        ('name = "tiny"\nstage = []\n', ["stage", "at least 1"]),
        (MINIMAL + 'share = ["projection"]\n', ["share must be [] or hold encoder"]),
        (MINIMAL + 'method = "restore"\nshare = ["encoder", "projection"]\n', ["for restore"]),
        (MINIMAL + '[[stage]]\nkind = "finetune"\nrounds = 1\ntask = "lesions"\n', ["did you mean 'lesion'"]),
        (TUNED + 'mode = "gradual"\n', ["frozen_rounds from 1 to 2", "found 0"]),
        (TUNED + 'mode = "gradual"\nfrozen_rounds = 3\n', ["frozen_rounds from 1 to 2", "found 3"]),
        (TUNED + "frozen_rounds = 1\n", ["frozen_rounds is for mode 'gradual'"]),
        (TUNED + 'mode = "probe"\nlayer_decay = 0.5\n', ["layer_decay is for an encoder that is trained"]),
        (TUNED + 'mode = "probes"\n', ["mode", "'probes'"]),
        (TUNED + "labels = 0.0\n", ["labels: must be above 0, found 0.0"]),
        (TUNED + "labels = 5.0\n", ["labels: must be at most 1, found 5.0"]),
        (MINIMAL + "[data]\nsize = [0, 2, 2]\n", ["data.size", "above 0"]),
        (MINIMAL + "[data]\ntest_fraction = 0.6\nvalidation_fraction = 0.5\n", ["must stay below 1"]),
        (MINIMAL + '[model]\nencoder = "mobilnet"\n', ["model.encoder", "unknown encoder", "did you mean 'mobilenet'"]),
        (MINIMAL + '[model]\nencoder = "mobilenet"\nresolutions = 6\n', ["has 5 resolutions at most, found 6"]),
        (MINIMAL + "[model]\nstages = 3\n", ["'model.stages': it is called 'resolutions' now"]),
        (MINIMAL + "[round]\nenough = 3\n", ["'round.enough': it is called 'close_after' now"]),
        (MINIMAL + '[initial]\nencoder = "random"\n', ["'initial.encoder': it is called 'weights' now"]),
        (MINIMAL + "[model]\nresolutions = 8\n", ["model.resolutions: must be at most 7, found 8"]),
        (MINIMAL + '[initial]\nweights = "imagent"\n', ["initial.weights", "'imagent'"]),
        (MINIMAL + '[initial]\nweights = "checkpoint"\n', ["initial", "needs sha256", "sha256sum FILE"]),
        (MINIMAL + f'[initial]\nsha256 = "{SHA}"\n', ["initial", "sha256 is for weights that come from a file"]),
        (
            MINIMAL + '[initial]\nweights = "checkpoint"\nsha256 = "abc"\n',
            ["initial.sha256: found 'abc', expected the SHA-256 of that file, in hexadecimal"],
        ),
        (MINIMAL + IMAGENET, ["holds the weights of a MobileNetV2", "found 'resenc'"]),
        (MINIMAL + "[privacy]\ntarget_epsilon = 8.0\n", ["privacy.target_epsilon", "'epsilon'"]),
        (MINIMAL + "[privacy]\nepsilon = 8.0\n", ["needs a unit"]),
        (MINIMAL + '[privacy]\nunit = "patient"\nepsilon = 8.0\nnoise = 1.0\n', ["one of them only"]),
        (MINIMAL + "[privacy]\nthreshold = 2\n", ["secure_aggregation"]),
        (MINIMAL + MASKED + '[round]\ncompress = "topk"\n', ["'topk'", "masks cancel only", "'fixed32'"]),
        (MINIMAL + MASKED + '[round]\ncompress = "none"\n', ["'none'", "masks cancel only"]),
        (MINIMAL + MASKED + "[round]\nparticipants = 2\n", ["needs 3 sites in a round, and one takes 2"]),
        (MINIMAL + MASKED + "[round]\nnorm_limit = 4.0\n", ["norm_limit is 4", "masks hide it"]),
        (MINIMAL + 'aggregate = "krum"\n' + MASKED, ["'krum' needs each update by itself", "masks hide it", "fedavg"]),
        (MINIMAL + 'aggregate = "l_dawa"\n[round]\ncompress = "fixed16"\n', ["direction", "adds up what arrives"]),
        ("name = \n", ["not valid TOML"]),
    ],
)
def test_a_mistake_names_the_file_the_key_and_the_nearest_valid_one(
    tmp_path: Path, text: str, expected: list[str]
) -> None:
    message = mistake(tmp_path, text)
    assert "study.toml" in message
    for part in expected:
        assert part in message


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    assert len(mistake(tmp_path, MINIMAL + "roundz = 1\nepoch = 1\n").splitlines()) == 2


def test_a_missing_file_and_a_binary_file_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Cannot read"):
        read_study(tmp_path / "absent.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        read_study(tmp_path / "binary.toml")


@pytest.mark.parametrize(("rounds", "expected"), [("", "fixed32"), ('[round]\ncompress = "fixed16"\n', "fixed16")])
def test_what_is_masked_travels_as_whole_numbers(tmp_path: Path, rounds: str, expected: str) -> None:
    path = tmp_path / "study.toml"
    path.write_text(MINIMAL + MASKED + rounds)
    study = read_study(path)
    assert study.round.compress == expected
    assert parse_study(study.canonical()).hash() == study.hash()
