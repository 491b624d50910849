"""Plugins come in by entry points and local files, each name with its origin; a broken one is listed, and the others go on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from helpers.installing import Site
from helpers.installing import site as site_in
from ltxcore.errors import ConfigError, PluginError
from ltxcore.registry import Broken, Origin, Registry, load

BUILT_IN = {"first_frame", "prefix", "suffix", "spatial_crop", "mask", "hole", "keyframes", "reference"}
HEAD = "import attrs\nfrom ltxcore.api import Inputs, LatentState, Role, hookimpl\n"


MODULE = """
{decorator}
class Mine:
    modalities = frozenset({{"video"}})
    content = "whole"
    {body}

    def apply({apply_}):
        return state.given(state.grid.frame % 2 == 0)


@hookimpl
def ltx_conditions():
    return {{"{name}": Mine}}
"""


def plugin(body: str = "", name: str = "every_other", decorator: str = "@attrs.frozen", apply_: str = "self, state, inputs") -> str:
    """A module with one condition; `body` replaces or adds attributes of its class."""
    return HEAD + MODULE.format(decorator=decorator, body=body, apply_=apply_, name=name)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.delenv("LTX_DISABLE_PLUGINS", raising=False)
    with site_in(tmp_path / "site") as found:
        yield found


def broken(registry: Registry) -> dict[str, str]:
    return {str(one.origin): one.reason for one in registry.broken}


# ---------------------------------------------------------------- what is there


def test_what_comes_with_ltx_is_there_by_the_same_door() -> None:
    registry = load(disabled=())
    assert registry.broken == ()
    ours = {name for name, named in registry.of_kind("condition").items() if named.origin.distribution == "ltx"}
    assert ours == BUILT_IN
    assert {"flexible"} <= set(registry.of_kind("strategy"))
    assert {"shifted_logit_normal", "uniform"} <= set(registry.of_kind("sigma_sampler"))
    assert {"console", "jsonl"} <= set(registry.of_kind("tracker"))


def test_a_name_knows_where_it_comes_from(site: Site) -> None:
    site.install("ltx-stripes", {"stripes": "stripes"}, {"stripes.py": plugin()}, version="2.1")
    named = load().get("condition", "every_other")
    assert (named.kind, named.name, named.value.__name__) == ("condition", "every_other", "Mine")
    assert named.origin == Origin("stripes", "ltx-stripes", "2.1")
    assert str(named.origin) == "ltx-stripes 2.1 (stripes)"


def test_a_plugin_may_add_things_of_several_kinds(site: Site) -> None:
    both = plugin() + dedent(
        """
        @attrs.frozen
        class Always:
            def sample(self, draws, key, tokens):
                return draws.uniform(key) * 0 + 0.5

        @hookimpl
        def ltx_sigma_samplers():
            return {"half": Always}

        @hookimpl
        def ltx_reference_filters():
            return {"smear": lambda clip: clip}
        """
    )
    site.install("ltx-both", {"both": "both"}, {"both.py": both})
    registry = load()
    assert broken(registry) == {}
    origins = {
        registry.get(kind, name).origin
        for kind, name in [("condition", "every_other"), ("sigma_sampler", "half"), ("reference_filter", "smear")]
    }
    assert origins == {Origin("both", "ltx-both", "1.0")}


def test_one_name_may_be_of_two_kinds(site: Site) -> None:
    sampler = HEAD + dedent(
        """
        @attrs.frozen
        class Mask:
            def sample(self, draws, key, tokens):
                return draws.uniform(key)

        @hookimpl
        def ltx_sigma_samplers():
            return {"mask": Mask}
        """
    )
    site.install("ltx-mask-sampler", {"sampler": "sampler"}, {"sampler.py": sampler})
    registry = load()
    assert broken(registry) == {}
    assert registry.get("condition", "mask").origin.distribution == "ltx"
    assert registry.get("sigma_sampler", "mask").origin.distribution == "ltx-mask-sampler"


def test_a_plugin_may_be_an_object_of_a_module(site: Site) -> None:
    source = plugin().replace("@hookimpl\ndef ltx_conditions():", "class Plugin:\n    @hookimpl\n    def ltx_conditions(self):")
    source = source.replace('    return {"every_other": Mine}', '        return {"every_other": Mine}') + "\nIT = Plugin()\n"
    site.install("ltx-object", {"object": "of_object:IT"}, {"of_object.py": source})
    registry = load()
    assert broken(registry) == {}
    assert registry.get("condition", "every_other").origin.plugin == "object"


def test_two_distributions_may_call_their_plugins_alike(site: Site) -> None:
    site.install("ltx-a", {"plugin": "plugin_a"}, {"plugin_a.py": plugin(name="a")})
    site.install("ltx-b", {"plugin": "plugin_b"}, {"plugin_b.py": plugin(name="b")})
    registry = load()
    assert broken(registry) == {}
    assert {"a", "b"} <= set(registry.of_kind("condition"))


def test_a_distribution_that_is_on_the_path_twice_counts_once(site: Site, tmp_path: Path) -> None:
    files = {"stripes.py": plugin()}
    site.install("ltx-stripes", {"stripes": "stripes"}, files, version="1.0")
    with site_in(tmp_path / "nearer") as nearer:
        nearer.install("ltx_stripes", {"stripes": "stripes"}, files, version="2.0")
        registry = load()
    assert broken(registry) == {}
    assert registry.get("condition", "every_other").origin.version == "2.0"


# ---------------------------------------------------------------- local files


def test_a_local_file_is_a_plugin_of_one_run(tmp_path: Path) -> None:
    path = tmp_path / "my_condition.py"
    path.write_text(plugin())
    named = load(local=[path]).get("condition", "every_other")
    assert str(named.origin) == f"local file ({path})"
    assert "every_other" not in load().of_kind("condition")


def test_a_local_file_that_is_named_twice_is_one_plugin(tmp_path: Path) -> None:
    path = tmp_path / "stripes.py"
    path.write_text(plugin())
    (tmp_path / "folder").mkdir()
    registry = load(local=[path, tmp_path / "folder" / ".." / "stripes.py"])
    assert (broken(registry), str(registry.get("condition", "every_other").origin)) == ({}, f"local file ({path})")


def test_two_local_files_of_one_name_keep_apart(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "mine.py" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(plugin(name=path.parent.name))
    registry = load(local=paths)
    assert broken(registry) == {}
    first, second = (registry.get("condition", name).value for name in ("a", "b"))
    assert sys.modules[first.__module__].Mine is first
    assert sys.modules[second.__module__].Mine is second


@pytest.mark.parametrize(
    ("name", "source", "reason"),
    [
        ("absent.py", None, "there is no such file"),
        ("text.txt", plugin(), "a local plugin is a Python file, ending in .py"),
        ("empty.py", "", "it offers no hook. Mark at least one function with ltxcore.api.hookimpl."),
    ],
)
def test_a_local_file_that_is_no_plugin_is_broken(tmp_path: Path, name: str, source: str | None, reason: str) -> None:
    path = tmp_path / name
    if source is not None:
        path.write_text(source)
    assert load(local=[path], disabled=()).broken == (Broken(Origin(str(path), "local file", ""), reason),)


def test_a_local_file_that_fails_leaves_no_module_behind(tmp_path: Path) -> None:
    path = tmp_path / "half_done.py"
    path.write_text("1 / 0")
    assert broken(load(local=[path])) == {
        f"local file ({path})": f"ZeroDivisionError: division by zero ({tmp_path.name}/half_done.py, line 1)"
    }
    assert not [name for name in sys.modules if "half_done" in name]


# ---------------------------------------------------------------- broken plugins

NOT_MAPPED = HEAD + "\n@hookimpl\ndef ltx_conditions():\n    return ['stripes']\n"
RAISES = HEAD + "\n@hookimpl\ndef ltx_conditions():\n    raise OSError('no network')\n"
MISNAMED = HEAD + "\n@hookimpl\ndef ltx_condition():\n    return {}\n"
TAKES = HEAD + "\n@hookimpl\ndef ltx_conditions(config):\n    return {}\n"
UNNAMED = HEAD + "\n@hookimpl\ndef ltx_conditions():\n    return {3: None}\n"
ROLE = 'Role("mask", source_key="{key}", kind="{kind}")'

KINDS: dict[str, tuple[str, str]] = {
    "imports what is not there": (
        "import no_such_package\n",
        "ModuleNotFoundError: No module named 'no_such_package' (site/broken.py, line 1)",
    ),
    "does not parse": ("def (\n", "SyntaxError: invalid syntax (broken.py, line 1)"),
    "raises when imported": ("\nraise RuntimeError('no GPU')\n", "RuntimeError: no GPU (site/broken.py, line 2)"),
    "raises without a message": ("\nraise MemoryError\n", "MemoryError without a message (site/broken.py, line 2)"),
    "ends the program": ("import sys\nsys.exit(3)\n", "it ends the program: SystemExit: 3 (site/broken.py, line 2)"),
    "offers no hook": ("x = 1\n", "it offers no hook. Mark at least one function with ltxcore.api.hookimpl."),
    "misnames a hook": (MISNAMED, 'there is no hook "ltx_condition". Did you mean "ltx_conditions"?'),
    "has a hook that takes something": (TAKES, "ltx_conditions takes (config); a hook must not take any parameters"),
    "has a hook that raises": (RAISES, "OSError: no network (site/broken.py, line 6)"),
    "returns no mapping": (NOT_MAPPED, "ltx_conditions returns list, not a mapping from names"),
    "names something by a number": (UNNAMED, "ltx_conditions names something 3; names must be non-empty strings"),
    "is no attrs class": (plugin(decorator=""), 'the condition "every_other" is not an attrs class'),
    "has no apply": (plugin().replace("def apply", "def aply"), 'the condition "every_other" has no method apply()'),
    "has an apply of two": (
        plugin(apply_="self, state"),
        'the condition "every_other" has apply(self, state); it must take (self, state, inputs)',
    ),
    "works on nothing": (
        plugin("modalities = frozenset()"),
        'the condition "every_other" has modalities frozenset(); they must be a frozenset of "video", "audio" or both',
    ),
    "works on smell": (
        plugin('modalities = frozenset({"smell"})'),
        'the condition "every_other" has modalities frozenset({\'smell\'}); they must be a frozenset of "video", "audio" or both',
    ),
    "works on a list": (
        plugin('modalities = ["video"]'),
        'the condition "every_other" has modalities [\'video\']; they must be a frozenset of "video", "audio" or both',
    ),
    "has content in the middle": (
        plugin('content = "middle"'),
        'the condition "every_other" has content \'middle\'; it must be "start", "end", "whole" or None',
    ),
    "appends perhaps": (plugin('appends = "yes"'), "the condition \"every_other\" has appends 'yes'; it must be True or False"),
    "redraws forever": (plugin("redraws = True"), 'the condition "every_other" has redraws True; it must be a whole number of at least 0'),
    "appends and redraws": (plugin("appends = True; redraws = 2"), 'the condition "every_other" appends tokens, so it cannot have redraws'),
    "for smells": (
        plugin('odour: int = attrs.field(default=0, metadata={"modality": "smell"})'),
        'the condition "every_other" has a field "odour" for the modality \'smell\'; it must be "video" or "audio"',
    ),
    "has a role by name": (
        plugin('roles = ("mask",)'),
        "the condition \"every_other\" has roles ('mask',); they must be a tuple of ltxcore.api.Role",
    ),
    "has a role of text": (
        plugin(f"roles = ({ROLE.format(key='mask_dir', kind='text')},)"),
        'the condition "every_other" has a role "mask" of kind \'text\'; it must be "mask", "latents", "pictures" or "values"',
    ),
    "has pictures of sounds": (
        plugin(f"roles = ({ROLE.format(key='key_dir', kind='pictures')},)\n    modalities = frozenset({{'audio'}})"),
        'the condition "every_other" has the role "mask" of kind "pictures"; only a condition on video alone can have one, and only one',
    ),
    "has a role with a key of ours": (
        plugin(f"roles = ({ROLE.format(key='type', kind='mask')},)"),
        'the condition "every_other" has a role "mask" with the source key "type", which is a key that all conditions have',
    ),
    "has a role twice": (
        plugin(f"roles = ({ROLE.format(key='mask_dir', kind='mask')}, {ROLE.format(key='other_dir', kind='mask')})"),
        'the condition "every_other" has two roles with the name or source key of "mask"',
    ),
    "has a field that is ours": (
        plugin("probability: float = 1.0"),
        'the condition "every_other" has a field "probability", which is a key that all conditions have, or one of its roles',
    ),
    "has a field that is its role's": (
        plugin(f'roles = ({ROLE.format(key="mask_dir", kind="mask")},)\n    mask_dir: str = "masks"'),
        'the condition "every_other" has a field "mask_dir", which is a key that all conditions have, or one of its roles',
    ),
    "takes a name of ours": (
        plugin(name="mask"),
        'the condition "mask" of ltx-broken 1.0 (broken) is already registered by ltx 0.1.0 (mask)',
    ),
}


@pytest.mark.parametrize(("source", "reason"), KINDS.values(), ids=KINDS)
def test_a_broken_plugin_is_listed_with_its_reason_and_the_others_go_on(site: Site, source: str, reason: str) -> None:
    site.install("ltx-broken", {"broken": "broken"}, {"broken.py": source})
    site.install("ltx-well", {"well": "well"}, {"well.py": plugin(name="well")})
    registry = load()
    assert broken(registry) == {"ltx-broken 1.0 (broken)": reason}
    assert {*BUILT_IN, "well"} <= set(registry.of_kind("condition"))
    assert registry.get("condition", "mask").origin.distribution == "ltx"
    assert "every_other" not in registry.of_kind("condition")


COLUMN = """
@attrs.frozen
class Speed:
    kind = "values"
    modality = "video"
    shape = ("F",)

    def encode(self, cell):
        return cell.per_latent_frame(cell.numbers())


@hookimpl
def ltx_columns():
    return {"speed": Speed}
"""


def reading(column: str, shape: str = '("F",)', modality: str = "video") -> str:
    """A module with a condition that reads a column."""
    role = f'roles = (Role("pace", source_key="pace_dir", kind="values", shape={shape}, column="{column}"),)'
    return plugin(f'modalities = frozenset({{"{modality}"}})\n    {role}')


MISFITS: dict[str, tuple[str, str]] = {
    "a typo": (
        reading("sped"),
        'has a role "pace" with the column "sped", but there is no such column. Did you mean "speed"?',
    ),
    "another shape": (
        reading("speed", '("F", 2)'),
        'has a role "pace" for values [F, 2] of video, but its column "speed" is encoded to values [F] of video',
    ),
    "one number for all frames": (
        reading("speed", "(1,)"),
        'has a role "pace" for values [1] of video, but its column "speed" is encoded to values [F] of video',
    ),
    "another modality": (
        reading("speed", modality="audio"),
        'has a role "pace" for values [F] of audio, but its column "speed" is encoded to values [F] of video',
    ),
    "a column of masks": (
        reading("video_mask"),
        'has a role "pace" for values [F] of video, but its column "video_mask" is encoded to mask of video',
    ),
}


@pytest.mark.parametrize(("source", "reason"), MISFITS.values(), ids=MISFITS)
def test_a_condition_whose_column_is_not_there_or_does_not_fit_is_broken(site: Site, source: str, reason: str) -> None:
    site.install("ltx-broken", {"broken": "broken"}, {"broken.py": source})
    site.install("ltx-speed", {"speed": "speed"}, {"speed.py": HEAD + COLUMN})
    registry = load()
    assert broken(registry) == {"ltx-broken 1.0 (broken)": f'the condition "every_other" {reason}'}
    assert ("every_other" in registry.of_kind("condition"), "speed" in registry.of_kind("column")) == (False, True)


def test_a_column_may_come_from_a_later_plugin_unless_that_one_is_switched_off(site: Site) -> None:
    site.install("ltx-a", {"a": "a"}, {"a.py": reading("speed", '("N",)')})
    site.install("ltx-b", {"b": "b"}, {"b.py": HEAD + COLUMN})
    assert broken(load()) == {}
    assert list(broken(load(disabled=["b"]))) == ["ltx-a 1.0 (a)"]


def test_a_plugin_that_is_left_out_takes_the_column_of_another_with_it(site: Site) -> None:
    site.install("ltx-a", {"a": "a"}, {"a.py": reading("speed")})
    site.install("ltx-b", {"b": "b"}, {"b.py": reading("none").replace("every_other", "other") + COLUMN})
    registry = load()
    assert list(broken(registry)) == ["ltx-b 1.0 (b)", "ltx-a 1.0 (a)"]
    assert not {"speed", "every_other", "other"} & {name for kind in ("column", "condition") for name in registry.of_kind(kind)}


KINDS_OF_OTHERS: dict[str, tuple[str, str, str]] = {
    "strategy": ("ltx_strategies", "class It:\n    pass", 'the strategy "it" is not an attrs class'),
    "strategy without build": ("ltx_strategies", "@attrs.frozen\nclass It:\n    pass", 'the strategy "it" has no method build()'),
    "sampler": ("ltx_sigma_samplers", "@attrs.frozen\nclass It:\n    pass", 'the sigma sampler "it" has no method sample()'),
    "tracker": ("ltx_trackers", "@attrs.frozen\nclass It:\n    def start(self): ...", 'the tracker "it" has no method log()'),
    "filter": ("ltx_reference_filters", "It = 3", 'the reference filter "it" is not a function'),
    "filter of a class": ("ltx_reference_filters", "class It:\n    pass", 'the reference filter "it" is not an attrs class'),
    "filter without call": (
        "ltx_reference_filters",
        "@attrs.frozen\nclass It:\n    pass",
        'the reference filter "it" has no method __call__()',
    ),
    "filter of something else": (
        "ltx_reference_filters",
        "def It(frames): ...\nIt.makes = 'sound'",
        'the reference filter "it" has makes \'sound\'; it must be "reference" or "mask"',
    ),
    "lazy command": (
        "ltx_commands",
        "from ltxcore.api import LazyCommand\nIt = LazyCommand('my_package.it', 'Do it.')",
        'the command "it" has target "my_package.it" and help "Do it."; they must be "package.module:attribute" and a line of text',
    ),
}


@pytest.mark.parametrize(("hook", "body", "reason"), KINDS_OF_OTHERS.values(), ids=KINDS_OF_OTHERS)
def test_what_is_no_condition_is_checked_too(site: Site, hook: str, body: str, reason: str) -> None:
    site.install(
        "ltx-broken", {"broken": "broken"}, {"broken.py": f'{HEAD}\n{body}\n\n@hookimpl\ndef {hook}():\n    return {{"it": It}}\n'}
    )
    assert broken(load()) == {"ltx-broken 1.0 (broken)": reason}


def test_an_entry_point_that_names_no_module_is_broken(site: Site) -> None:
    site.install("ltx-gone", {"gone": "no_such_module", "half": "json:no_such_thing"}, {})
    assert broken(load()) == {
        "ltx-gone 1.0 (gone)": "ModuleNotFoundError: No module named 'no_such_module'",
        "ltx-gone 1.0 (half)": "AttributeError: module 'json' has no attribute 'no_such_thing'",
    }


def test_a_garbled_list_of_entry_points_breaks_its_own_distribution_alone(site: Site) -> None:
    site.install("ltx-garbled", "[ltx]\nthis is no entry point\n", {})
    site.install("ltx-well", {"well": "well"}, {"well.py": plugin(name="well")})
    registry = load()
    assert list(broken(registry)) == ["ltx-garbled 1.0 (?)"]
    assert registry.broken[0].reason.startswith("the entry points cannot be read: ")
    assert "well" in registry.of_kind("condition")


def test_a_module_that_two_entry_points_name_is_loaded_once(site: Site) -> None:
    site.install("ltx-stripes", {"stripes": "stripes", "zebra": "stripes"}, {"stripes.py": plugin()})
    registry = load()
    assert broken(registry) == {
        "ltx-stripes 1.0 (zebra)": "the module is already registered by ltx-stripes 1.0 (stripes); a module needs only one entry point"
    }
    assert "every_other" in registry.of_kind("condition")


def test_of_two_strangers_with_one_name_the_second_is_refused_and_both_are_named(site: Site) -> None:
    site.install("ltx-b", {"b": "plugin_b"}, {"plugin_b.py": plugin()})
    site.install("ltx-a", {"a": "plugin_a"}, {"plugin_a.py": plugin()})
    registry = load()
    assert broken(registry) == {"ltx-b 1.0 (b)": 'the condition "every_other" of ltx-b 1.0 (b) is already registered by ltx-a 1.0 (a)'}
    assert registry.get("condition", "every_other").origin.distribution == "ltx-a"


def test_a_name_of_ours_stays_ours_whatever_the_distribution_that_claims_it_is_called(site: Site) -> None:
    site.install("aaa", {"aaa": "before_all"}, {"before_all.py": plugin(name="mask")})
    registry = load()
    assert broken(registry) == {"aaa 1.0 (aaa)": 'the condition "mask" of aaa 1.0 (aaa) is already registered by ltx 0.1.0 (mask)'}
    assert registry.get("condition", "mask").origin.distribution == "ltx"


def test_a_plugin_that_is_stopped_from_outside_stops_the_program(site: Site) -> None:
    site.install("ltx-slow", {"slow": "slow"}, {"slow.py": "raise KeyboardInterrupt\n"})
    with pytest.raises(KeyboardInterrupt):
        load()


# ---------------------------------------------------------------- using names


def test_an_unknown_name_comes_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError) as caught:
        load(disabled=()).get("condition", "first_farme", "run.toml:12: type")
    assert str(caught.value) == 'run.toml:12: type: there is no condition "first_farme"\n    Did you mean "first_frame"?'


def test_a_name_that_is_like_no_other_comes_with_all_of_its_kind() -> None:
    with pytest.raises(ConfigError) as caught:
        load(disabled=()).get("sigma_sampler", "gaussian")
    assert str(caught.value) == 'there is no sigma sampler "gaussian"\n    Known: shifted_logit_normal, uniform.'


def test_a_deprecated_name_is_there_but_not_offered() -> None:
    registry = load(disabled=())
    assert set(registry.of_kind("strategy")) == {"flexible", "text_to_video", "video_to_video"}
    with pytest.raises(ConfigError) as caught:
        registry.get("strategy", "bananas")
    assert str(caught.value) == 'there is no strategy "bananas"\n    Known: flexible.'


def test_an_unknown_name_may_be_that_of_a_broken_plugin_which_is_named(site: Site) -> None:
    site.install("ltx-broken", {"broken": "broken"}, {"broken.py": "import no_such_package\n"})
    with pytest.raises(ConfigError) as caught:
        load().get("sigma_sampler", "gaussian")
    assert str(caught.value) == (
        'there is no sigma sampler "gaussian"\n'
        "    Known: shifted_logit_normal, uniform. Or it comes from a broken plugin: ltx-broken 1.0 (broken); see `ltx plugins list`."
    )


@pytest.mark.parametrize(
    ("source", "name", "reason"),
    [
        ("import no_such_package\n", "broken", "ModuleNotFoundError: No module named 'no_such_package' (site/broken.py, line 1)"),
        (plugin(decorator=""), "every_other", 'the condition "every_other" is not an attrs class'),
        (
            plugin() + "\n@hookimpl\ndef ltx_strategies():\n    return 1 / 0\n",
            "every_other",
            "ZeroDivisionError: division by zero (site/broken.py, line 20)",
        ),
    ],
    ids=["a plugin's name", "a name it claims", "a name it claims before it fails"],
)
def test_a_name_of_a_broken_plugin_says_what_is_wrong_with_it(site: Site, source: str, name: str, reason: str) -> None:
    site.install("ltx-broken", {"broken": "broken"}, {"broken.py": source})
    with pytest.raises(PluginError) as caught:
        load().get("condition", name, "run.toml:12: type")
    assert str(caught.value) == (
        f'run.toml:12: type: the condition "{name}" comes from a broken plugin, ltx-broken 1.0 (broken): {reason}\n'
        "    Fix or uninstall the plugin; `ltx plugins list` shows all broken plugins."
    )


# ---------------------------------------------------------------- switching off


def test_plugins_are_switched_off_by_name(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("ltx-broken", {"broken": "broken"}, {"broken.py": "raise RuntimeError\n"})
    monkeypatch.setenv("LTX_DISABLE_PLUGINS", "mask, broken ,")
    registry = load()
    assert registry.broken == ()
    assert set(registry.of_kind("condition")) == BUILT_IN - {"mask"}
    assert registry.disabled == (Origin("mask", "ltx", "0.1.0"), Origin("broken", "ltx-broken", "1.0"))


def test_a_name_of_a_plugin_that_is_switched_off_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTX_DISABLE_PLUGINS", "mask")
    with pytest.raises(PluginError) as caught:
        load().get("condition", "mask", "run.toml:12: type")
    assert str(caught.value) == (
        'run.toml:12: type: the condition "mask" comes from ltx 0.1.0 (mask), a plugin that LTX_DISABLE_PLUGINS switches off\n'
        "    Remove it from LTX_DISABLE_PLUGINS."
    )


@pytest.mark.parametrize("source", ["import no_such_package\n", "import sys; sys.exit(1)\n", "def (\n"])
def test_the_program_lists_a_broken_plugin_and_works(site: Site, source: str) -> None:
    site.install("ltx-broken", {"broken": "broken"}, {"broken.py": source})
    command = [sys.executable, "-m", "ltxcore", "plugins", "list"]
    found = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(site.folder), "PATH": "/usr/bin:/bin"}
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert "ltx-broken 1.0 (broken): " in found.stdout
    assert "first_frame" in found.stdout
