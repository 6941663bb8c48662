from baselines.sasrec import SASRec
from bench.naming import flatten, system_name
from dpr.adapter import DPRSAS


def test_a_system_is_named_with_what_somebody_chose():
    usual = DPRSAS.Settings().model_dump(mode="json")
    assert system_name("dpr_sas", usual, "ml-1m") == "dpr_sas"
    chosen = usual | {"noise": 0.0, "temperature": 0.5, "backbone": usual["backbone"] | {"dim": 32}}
    assert system_name("dpr_sas", chosen, "ml-1m") == "dpr_sas noise=0 temperature=0.5 backbone.dim=32"
    assert system_name("gone", chosen, "ml-1m") == "gone"


def test_what_suits_the_dataset_is_nobodys_choice():
    from tasks.datasets.mini import Mini

    suited = SASRec.Settings.fitting(Mini.card.model_settings)
    made = SASRec.Settings.parse("sasrec", suited).model_dump(mode="json")
    assert suited and system_name("sasrec", made, "mini") == "sasrec"
    assert system_name("sasrec", made, "ml-1m") != "sasrec"


def test_settings_within_settings_have_the_names_that_set_takes():
    assert flatten({"a": 1, "b": {"c": {"d": None}}}) == {"a": 1, "b.c.d": None}
