"""Folding keeps its way back, sentences stand where they say, languages are told apart."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.features import Features
from detectors.features.folding import fold, offsets, unmask
from detectors.features.text_features import TextFeatures
from detectors.records import Annotations, ToolCall


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=120))
def test_offsets_lead_back_to_the_raw_text(raw):
    folded, places = fold(raw), offsets(raw)
    if places is None:
        assert len(folded) == len(raw)
        return
    assert len(places) == len(folded) + 1
    assert places == sorted(places)
    assert places[-1] == len(raw)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_sentences_stand_where_they_say(raw):
    text = TextFeatures(raw)
    last = 0
    for sentence in text.sentences:
        assert text.folded[sentence.start : sentence.end] == sentence.text
        assert sentence.start >= last
        last = sentence.end
        start, end = text.raw_span(sentence.start, sentence.end)
        assert 0 <= start < end <= len(raw)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_folded_text_is_well_formed(raw):
    fold(raw).encode("utf-8")


@pytest.mark.parametrize(
    ("raw", "folded"),
    [
        ("I CAN’T – Ｈá\u200bck", "i can't - hack"),
        ("pаypаl", "paypal"),
        ("Москва", "москва"),
        ("안녕하세요", "안녕하세요"),
        ("e\u0301te\u0301", "ete"),
        ("\ud800x", "\ufffdx"),
    ],
)
def test_fold(raw, folded):
    assert fold(raw) == folded


def test_raw_span_crosses_removed_and_widened_characters():
    text = TextFeatures("a\u200bﬁb’s secret")
    start = text.folded.index("secret")
    assert text.raw[slice(*text.raw_span(start, start + 6))] == "secret"


@pytest.mark.parametrize(
    ("folded", "plain"),
    [("h4ck the w i f i", "hack the wifi"), ("p@$$word", "password"), ("room 101 at 5", "room 101 at 5")],
)
def test_unmask(folded, plain):
    assert unmask(folded) == plain


def test_sentences_leave_out_code_and_list_marks():
    text = TextFeatures("Do this:\n1. Open e.g. the page.\n- *Close* it!\n```\nrm -rf.\n```\nDone?")
    assert [s.text for s in text.sentences] == ["do this:", "open e.g. the page.", "close* it!", "done?"]
    assert text.list_items == 2


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("Where can I find the invoice for my last order?", "en"),
        ("¿Dónde puedo encontrar la factura de mi último pedido?", "es"),
        ("Où est-ce que je peux trouver la facture de ma commande ?", "fr"),
        ("Wo finde ich die Rechnung für meine letzte Bestellung?", "de"),
        ("Dove posso trovare la fattura del mio ultimo ordine?", "it"),
        ("Onde posso encontrar a fatura do meu último pedido?", "pt"),
        ("Waar kan ik de factuur van mijn laatste bestelling vinden?", "nl"),
        ("Где я могу найти счёт за мой последний заказ?", "ru"),
        ("最後の注文の請求書はどこにありますか。", "ja"),
        ("在哪里可以找到我的发票？", "zh"),
        ("지난 주문의 청구서는 어디에 있나요?", "ko"),
        ("Gdzie mogę znaleźć fakturę za moje ostatnie zamówienie?", "pl"),
    ],
)
def test_language(raw, code):
    assert TextFeatures(raw).language.code == code


def test_language_ignores_code_and_addresses():
    code = "```\nfor the item in the list of the user: print the item\n```"
    raw = f"{code}\nAbra la página de pedidos y elija la factura."
    assert TextFeatures(raw).language.code == "es"
    assert TextFeatures("https://example.org/the/page/of/the/user").language.confidence == 0.0


def test_features_are_computed_once():
    calls = []

    def read(features):
        calls.append(features)
        return len(features.interaction.prompt)

    features = Features.of(prompt="abc", response="")
    assert (features.once(read), features.once(read), len(calls)) == (3, 3, 1)
    assert features.response is features.response


def test_known_holds_context_tools_and_reference():
    features = Features.of(
        prompt="",
        response="",
        context=("Revenue: 12",),
        tools=(ToolCall("search", result="Paris"),),
        annotations=Annotations(reference_answer="Yes"),
    )
    assert features.known.folded == "revenue: 12\nparis\nyes"
