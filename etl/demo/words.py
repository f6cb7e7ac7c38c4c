"""The articles of the made-up shop. Brands, products and texts are inventions of this project."""

from __future__ import annotations

from typing import NamedTuple


class ProductKind(NamedTuple):
    """One kind of product and what its variants differ in."""

    name_sv: str
    name_en: str
    categories: str
    text_sv: str
    text_en: str
    price: int  #: typical sales price in SEK
    grams: int
    materials: tuple[tuple[str, str], ...]
    variants: tuple[tuple[str, str], ...]
    metres: bool = False  #: sold by length, so stock has decimals


#: Code and name of the manufacturers.
BRANDS = (
    ("NLJ", "Norrlyse Belysning"),
    ("FJV", "Fjällvråk Verktyg"),
    ("OKE", "Ökenros Textil"),
    ("BRA", "Bråtorps Trädgård"),
    ("FKH", "Falkenhöhe Werke"),
)

SERIES = (
    "Älvdal",
    "Skärgård",
    "Åsnen",
    "Hällevik",
    "Mörkö",
    "Tjörn",
    "Väddö",
    "Norrsken",
    "Björka",
    "Fårö",
    "Sälen",
    "Öland",
)

COLOURS = (("svart", "black"), ("vit", "white"), ("blå", "blue"), ("röd", "red"))
SIZES = (("S", "S"), ("M", "M"), ("L", "L"))
LENGTHS = (("2 m", "2 m"), ("5 m", "5 m"), ("10 m", "10 m"))
WATTS = (("7 W", "7 W"), ("11 W", "11 W"), ("15 W", "15 W"))

METAL = (("stål", "steel"), ("aluminium", "aluminium"), ("mässing", "brass"))
CLOTH = (("bomull", "cotton"), ("lin", "linen"), ("ull", "wool"))
WOOD = (("ek", "oak"), ("björk", "birch"), ("ask", "ash"))
PLASTIC = (("polypropen", "polypropylene"), ("återvunnen plast", "recycled plastic"))

PRODUCT_KINDS = (
    ProductKind(
        "Bordslampa",
        "Table lamp",
        "Hem|Hem/Belysning",
        "Ger ett varmt sken över skrivbordet. Sladden är klädd i tyg.",
        "Gives a warm light over the desk. The cord is covered in fabric.",
        599,
        1850,
        METAL,
        COLOURS[:3],
    ),
    ProductKind(
        "Väggarmatur",
        "Wall light",
        "Hem|Hem/Belysning|Trädgård",
        "Tål regn och snö. Ljuskällan går att byta utan verktyg.",
        "Stands rain and snow. The light source is changed without tools.",
        849,
        1320,
        METAL,
        WATTS,
    ),
    ProductKind(
        "Förlängningskabel",
        "Extension cable",
        "Verktyg|Verktyg/El",
        "Gummikabel för utomhusbruk, mjuk även när det är kallt.",
        "Rubber cable for outdoor use, supple even when it is cold.",
        249,
        640,
        PLASTIC,
        LENGTHS,
    ),
    ProductKind(
        "Installationskabel",
        "Installation cable",
        "Verktyg|Verktyg/El",
        "Säljs på meter. Ange önskad längd när du beställer.",
        "Sold by the metre. State the length you want when ordering.",
        19,
        110,
        PLASTIC,
        (("3 ledare", "3 cores"), ("5 ledare", "5 cores")),
        metres=True,
    ),
    ProductKind(
        "Snickarhammare",
        "Claw hammer",
        "Verktyg|Verktyg/Handverktyg",
        "Balanserad hammare med skaft som ligger still i handen.",
        "Balanced hammer with a handle that stays put in the hand.",
        329,
        720,
        WOOD,
        (("450 g", "450 g"), ("570 g", "570 g")),
    ),
    ProductKind(
        "Vattenpass",
        "Spirit level",
        "Verktyg|Verktyg/Mätning",
        "Tre libeller och slipad undersida. Varje pass är kontrollmätt.",
        "Three vials and a ground base. Every level has been measured.",
        279,
        510,
        METAL,
        (("40 cm", "40 cm"), ("60 cm", "60 cm"), ("100 cm", "100 cm")),
    ),
    ProductKind(
        "Arbetshandske",
        "Work glove",
        "Kläder|Kläder/Arbete",
        "Förstärkt handflata; går att tvätta i 40 grader.",
        "Reinforced palm; can be washed at 40 degrees.",
        129,
        90,
        CLOTH,
        SIZES,
    ),
    ProductKind(
        "Filt",
        "Blanket",
        "Hem|Hem/Textil",
        "Vävd på bred vävstol. Mjuk från första dagen.",
        "Woven on a wide loom. Soft from the first day.",
        699,
        980,
        CLOTH,
        COLOURS[1:],
    ),
    ProductKind(
        "Dukväv",
        "Tablecloth fabric",
        "Hem|Hem/Textil",
        "Metervara, 150 cm bred. Krymper högst tre procent.",
        "Sold by the metre, 150 cm wide. Shrinks three per cent at most.",
        159,
        240,
        CLOTH,
        COLOURS[:2],
        metres=True,
    ),
    ProductKind(
        "Odlingslåda",
        "Planter box",
        "Trädgård|Trädgård/Odling",
        "Levereras platt och sätts ihop utan skruv.",
        "Comes flat and goes together without screws.",
        449,
        5200,
        WOOD,
        (("60 × 40 cm", "60 × 40 cm"), ("80 × 60 cm", "80 × 60 cm")),
    ),
    ProductKind(
        "Vattenkanna",
        "Watering can",
        "Trädgård|Trädgård/Bevattning",
        "Lång pip som når in bakom krukorna. Rymmer det som står på den.",
        "Long spout that reaches behind the pots. Holds what it says.",
        189,
        430,
        PLASTIC,
        (("5 l", "5 l"), ("10 l", "10 l")),
    ),
    ProductKind(
        "Krukfat",
        "Saucer",
        "Trädgård|Trädgård/Odling",
        "Glaserad på insidan så att vattnet blir kvar i fatet.",
        "Glazed inside, so that the water stays where it is.",
        79,
        350,
        PLASTIC,
        SIZES,
    ),
    ProductKind(
        "Verktygslåda",
        "Tool box",
        "Verktyg|Verktyg/Förvaring",
        "Lås i metall och lösa fack. Håller att stå på.",
        "Metal latches and loose trays. Strong enough to stand on.",
        549,
        2300,
        METAL,
        SIZES[1:],
    ),
)

#: People and places of the CRM, put together at random; nobody is meant.
FIRST_NAMES = ("Åsa", "Björn", "Cecilia", "David", "Elsa", "Fredrik", "Gun", "Hjalmar", "Ingrid", "Jöns", "Karin")
LAST_NAMES = ("Lindqvist", "Åkerby", "Mörk", "Nordgren", "Öberg", "Palm", "Rosén", "Sjöblad", "Tall", "Ulvskog")
STREETS = ("Storgatan", "Kvarnvägen", "Norra Älvgatan", "Björkstigen", "Hamngatan", "Ängsvägen", "Smedjegränd")
TOWNS = ("Åmål", "Skövde", "Härnösand", "Ystad", "Örebro", "Kiruna")
