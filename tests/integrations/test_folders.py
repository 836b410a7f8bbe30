"""``diffusers:FOLDER`` and ``transformers:FOLDER``: what a library wrote, and what it did not."""

import json

import pytest
import torch

import flatconv
from flatconv import cli
from flatconv.spec import load_model

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

WAN = {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 1], "num_res_blocks": 1, "temperal_downsample": [False]}
TEXT = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4},
}  # fmt: skip
VISION = {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2}


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline") / "vae"
    torch.manual_seed(0)
    model = diffusers.AutoencoderKLWan(**WAN).eval()
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder, model.float()


@pytest.fixture(scope="module")
def vision(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "vision"
    torch.manual_seed(0)
    config = transformers.Qwen2VLConfig(text_config=TEXT, vision_config=VISION)
    model = transformers.Qwen2VLForConditionalGeneration(config).eval()
    model.save_pretrained(folder)
    return folder, model


def same(a, b):
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())


def test_diffusers(vae):
    folder, model = vae
    found = load_model(f"diffusers:{folder}")
    assert type(found) is type(model)
    assert not found.training
    assert next(found.parameters()).dtype == torch.float32
    assert same(found, model)


def test_transformers_and_a_part(vision):
    folder, model = vision
    assert same(load_model(f"transformers:{folder}"), model)
    assert same(load_model(f"transformers:{folder}#model.visual.patch_embed"), model.model.visual.patch_embed)


def test_the_commands(vae, vision, capsys):
    for arguments in (
        ["fold", f"diffusers:{vae[0]}", "--method", "decode", "--input", "1x4x1x4x6", "--no-tune", "--json"],
        ["audit", f"transformers:{vision[0]}#model.visual.patch_embed", "--input", "16x1176", "--json"],
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(arguments)
        assert not stopped.value.code
        assert json.loads(capsys.readouterr().out)["sites"]


def bad(spec, *words):
    with pytest.raises(flatconv.InputError) as raised:
        load_model(spec)
    for word in words:
        assert word in str(raised.value)


def written(folder, config):
    folder.mkdir()
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


def test_folders_that_are_none(tmp_path, vae):
    bad(f"diffusers:{tmp_path / 'nowhere'}", "is no folder")
    bad(f"diffusers:{tmp_path}", "has no config.json")
    bad(f"diffusers:{vae[0].parent}", "has no config.json", f"diffusers:{vae[0]}")
    bad(f"diffusers:{vae[0] / 'config.json'}", "is no folder")


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, '"\\ud800"', "\x00"])
def test_configurations_that_are_none(tmp_path, text):
    for library in ("diffusers", "transformers"):
        bad(f"{library}:{written(tmp_path / library, text)}", "config")


@pytest.mark.parametrize(
    "name", [None, 3, "", "os", "NoSuchModel", "utils", "DDPMScheduler", "__doc__", "AutoencoderKLWan.__init__"]
)
def test_classes_that_are_none(tmp_path, name):
    bad(f"diffusers:{written(tmp_path / 'x', {'_class_name': name})}", "names the class")


def test_code_in_a_folder_is_not_run(tmp_path):
    folder = written(tmp_path / "x", {"model_type": "mine", "auto_map": {"AutoModel": "mine.Model"}})
    (folder / "mine.py").write_text("raise SystemExit('run')")
    bad(f"transformers:{folder}", "code of its own", "not run")
    bad(f"transformers:{written(tmp_path / 'y', {})}", "no model_type")
    bad(f"transformers:{written(tmp_path / 'z', {'model_type': 'nothing known'})}", "cannot be loaded")


def test_pickled_weights_are_not_opened(tmp_path, vae):
    folder = written(tmp_path / "x", (vae[0] / "config.json").read_text())
    torch.save(vae[1].state_dict(), folder / "diffusion_pytorch_model.bin")
    bad(f"diffusers:{folder}", "cannot be loaded by diffusers")


def test_weights_that_are_damaged(tmp_path, vae):
    folder = written(tmp_path / "x", (vae[0] / "config.json").read_text())
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"\xff" * 100)
    bad(f"diffusers:{folder}", "cannot be loaded by diffusers")


def test_parts_that_are_none(vision):
    bad(
        f"transformers:{vision[0]}#model.visual.patch_embed.x",
        "has no module 'model.visual.patch_embed.x'",
        "there are proj",
    )
    bad(f"transformers:{vision[0]}#x", "in the model there are model, lm_head")
