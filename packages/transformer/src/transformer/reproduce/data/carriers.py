"""The packages whose translation catalogues are read, each pinned by its hash, with its licence."""

from __future__ import annotations

from dataclasses import dataclass

from papertest.data import Carrier


@dataclass(frozen=True)
class Catalogues:
    """Where a distribution keeps its catalogues: a glob, and what each language puts in place of its {}."""

    carrier: Carrier
    files: str
    names: dict[str, str]


# Where several translate the same text, the first decides.
CATALOGUES = (
    Catalogues(
        Carrier(
            "pretix",
            "2026.8.0",
            "a78932e698778d873530d67f25a57c28d1c09b1bfb1a22ec817c00d90397db85",
            "AGPL-3.0 with additional terms",
        ),
        "pretix/locale/{}/LC_MESSAGES/*.mo",
        {"de": "de", "zh": "zh_Hans"},
    ),
    Catalogues(
        Carrier(
            "homeassistant",
            "2024.3.3",
            "6e1ec2c07441d63fdcfb8acd2c4bbb6f68bc97330855784d3623d10c38fe3577",
            "Apache-2.0",
        ),
        "homeassistant/components/*/translations/{}.json",
        {"de": "de", "zh": "zh-Hans"},
    ),
    Catalogues(
        Carrier(
            "gramps", "6.0.8", "56f03bcb643320eb9f9892d4c3f8bbe7c4c4d2e4c71e56f598584af24561ec1c", "GPL-2.0-or-later"
        ),
        "*/data/share/locale/{}/LC_MESSAGES/*.mo",
        {"de": "de", "zh": "zh_CN"},
    ),
    Catalogues(
        Carrier("horizon", "27.0.0", "8a981dae4fb6626e71553aa185f6e429b0b1efb86b04b0a72c3b18ee04f1f990", "Apache-2.0"),
        "*/locale/{}/LC_MESSAGES/*.po",
        {"de": "de", "zh": "zh_Hans"},
    ),
    Catalogues(
        Carrier(
            "openstack-heat", "13.1.0", "928477aefc87b47806dd5a75eb5fe4d1528b887419fcd27ff28d1ed83ff1ff92", "Apache-2.0"
        ),
        "heat/locale/{}/LC_MESSAGES/*.po",
        {"de": "de", "zh": "zh_CN"},
    ),
    Catalogues(
        Carrier("cinder", "15.6.0", "d13a1eda19f9ae6cbb40de0960f2d24679a1e74c1d19feeebac5b611eafda8d5", "Apache-2.0"),
        "cinder/locale/{}/LC_MESSAGES/*.po",
        {"de": "de", "zh": "zh_CN"},
    ),
    Catalogues(
        Carrier("nova", "20.6.1", "f91a8ce64b9f708cfb4740dc6f9d056436db2e5870dc9cdc775192f7714828f9", "Apache-2.0"),
        "nova/locale/{}/LC_MESSAGES/*.po",
        {"de": "de", "zh": "zh_CN"},
    ),
    Catalogues(
        Carrier(
            "plone.app.locales", "7.0.4", "de96a5d0dc1fe5ab540fa6f993805c09da80a9518aa7a309e8cd1f433e3ae6aa", "GPL-2.0"
        ),
        "plone/app/locales/locales/{}/LC_MESSAGES/*.po",
        {"de": "de", "zh": "zh_CN"},
    ),
    Catalogues(
        Carrier(
            "mayan-edms", "4.12.2", "5eb0deccb29199a7add33a757161f3f461aa3b00451de13027049258dd412f67", "GPL-2.0-only"
        ),
        "mayan/apps/*/locale/{}/LC_MESSAGES/*.mo",
        {"de": "de_DE", "zh": "zh_Hans"},
    ),
    Catalogues(
        Carrier("spyder", "6.1.8", "4da836742a7138c93392a8a0bd1a5ff40002cf92d217ef0e7bed11b522322f90", "MIT"),
        "spyder/locale/{}/LC_MESSAGES/*.mo",
        {"de": "de", "zh": "zh_CN"},
    ),
    Catalogues(
        Carrier("pretalx", "2025.2.2", "39e99ae2c8ad4a6a17d2ee022fc52369a0ac398762cac537de7833c664828440", "AGPL-3.0"),
        "pretalx/locale/{}/LC_MESSAGES/*.po",
        {"de": "de_DE", "zh": "zh_Hans"},
    ),
    Catalogues(
        Carrier(
            "nicotine-plus",
            "3.3.11",
            "57a5fdf5f4d3ca993bfd3e086348c95536557cfa68569c0fc03b21f5c8d4307a",
            "GPL-3.0-or-later",
        ),
        "pynicotine/locale/{}/LC_MESSAGES/*.mo",
        {"de": "de", "zh": "zh_CN"},
    ),
    Catalogues(
        Carrier("Trac", "1.6", "5ff2f3394ebee7cc5b8ee465871cfdecb78ee492a74215b47b6d9ddbcc93b5f7", "BSD-3-Clause"),
        "trac/locale/{}/LC_MESSAGES/*.mo",
        {"de": "de", "zh": "zh_CN"},
    ),
    Catalogues(
        Carrier(
            "jupyterlab-language-pack-de-DE",
            "4.5.post3",
            "b716b56f7e0c884f42152d5e36c253ea0f32ca41f99097d842d3934f4a4bc7fb",
            "BSD-3-Clause",
        ),
        "jupyterlab_language_pack_{}/locale/*/LC_MESSAGES/*.mo",
        {"de": "de_DE"},
    ),
    Catalogues(
        Carrier(
            "jupyterlab-language-pack-zh-CN",
            "4.5.post3",
            "47cdb0c41c6b066e795c867786c9c29fde527e2bf15aa6b3e9b2bab9929304b5",
            "BSD-3-Clause",
        ),
        "jupyterlab_language_pack_{}/locale/*/LC_MESSAGES/*.mo",
        {"zh": "zh_CN"},
    ),
)
