"""The answer's language against the one wanted, sentence by sentence."""

import pytest

from detectors.features import Features
from detectors.records import Turn
from detectors.scorers import SCORERS

MISMATCH = SCORERS.build("language_mismatch", {})
ANSWERS = {
    "en": "You can find the invoice in your account, under the orders page.",
    "es": "Puede encontrar la factura en su cuenta, en la página de pedidos.",
    "fr": "Vous pouvez trouver la facture dans votre compte, sur la page des commandes.",
    "de": "Sie finden die Rechnung in Ihrem Konto auf der Seite mit den Bestellungen.",
    "ru": "Вы можете найти счёт в своём аккаунте на странице заказов.",
    "ja": "請求書はアカウントの注文ページにあります。",
}
QUESTIONS = {
    "en": "Where can I find the invoice for my last order?",
    "es": "¿Dónde puedo encontrar la factura de mi último pedido?",
    "fr": "Où est-ce que je peux trouver la facture de ma dernière commande ?",
    "de": "Wo finde ich die Rechnung für meine letzte Bestellung?",
    "ru": "Где я могу найти счёт за мой последний заказ?",
    "ja": "最後の注文の請求書はどこにありますか。",
}


def mismatch(prompt, response, **fields):
    score = MISMATCH.score(Features.of(prompt=prompt, response=response, **fields))
    return None if score is None else score.value


@pytest.mark.parametrize("asked", QUESTIONS)
@pytest.mark.parametrize("answered", ANSWERS)
def test_every_pair_of_languages(asked, answered):
    assert mismatch(QUESTIONS[asked], ANSWERS[answered]) == float(asked != answered)


def test_late_switch_is_a_share():
    value = mismatch(QUESTIONS["es"], f"{ANSWERS['es']} {ANSWERS['en']}")
    assert 0.3 <= value <= 0.7


@pytest.mark.parametrize(
    "prompt",
    [
        "Translate this into Spanish: where is the invoice?",
        "How do you say 'where is the invoice' in Spanish?",
        "Traduce esto al inglés, por favor: ¿dónde está la factura?",
        "Ich möchte Spanisch lernen, wie sagt man Rechnung?",
    ],
)
def test_translation_requests_are_exempt(prompt):
    assert mismatch(prompt, ANSWERS["es"]) is None


def test_the_language_asked_for_counts():
    assert mismatch("Please answer in French: where is my invoice?", ANSWERS["fr"]) == 0.0
    assert mismatch("Please answer in French: where is my invoice?", ANSWERS["en"]) == 1.0


def test_too_short_to_tell():
    assert mismatch("ok", "ok") is None


def test_a_short_follow_up_takes_the_language_of_the_conversation():
    history = (Turn("user", QUESTIONS["de"]), Turn("assistant", ANSWERS["de"]))
    assert mismatch("Und dann?", ANSWERS["en"], history=history) == 1.0
    assert mismatch("Und dann?", ANSWERS["de"], history=history) == 0.0


def test_code_is_ignored():
    code = "```python\nfor the_item in the_list_of_users: print(the_item)  # print all of the items\n```"
    assert mismatch(QUESTIONS["es"], f"{ANSWERS['es']}\n{code}") == 0.0
