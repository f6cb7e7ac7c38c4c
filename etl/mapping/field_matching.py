"""Guesses which Connect field a column's header means, in Swedish, Norwegian, German, English and Finnish."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache

#: Headers that people use for a field, without blanks, punctuation and accents.
SYNONYMS: dict[str, str] = {
    "PartNo": "artikelnr artikelnummer artnr art artno sku variantsku itemno itemnumber item articlenumber articleno "
    "article partnumber ordernumber numero productno productnumber produktnr produktnummer varenr varenummer "
    "tuotenumero tuotenro tuotekoodi tuote artikel bestellnummer artikelid productid skucode pid",
    "Code": "kod code modell model modellnr handle parentsku produktkod productcode kundnr kundnummer kundenummer "
    "kundennummer customerno customernumber asiakasnumero prislista pricelist prisliste hinnasto id",
    "Name": "namn name navn nimi bezeichnung titel title benamning benevnelse varenavn produktnamn productname "
    "produktname tuotenimi artikelbezeichnung nimike",
    "Description": "beskrivning beskrivelse description beschreibung kuvaus bodyhtml longdescription langtext text",
    "EanCode": "ean gtin barcode upc streckkod strekkode viivakoodi ean13 eancode gtin13 variantbarcode eankod",
    "ManufacturerName": "tillverkare manufacturer hersteller produsent valmistaja brand marke varumarke merke marka "
    "vendor leverantor merkki",
    "ManufacturerCode": "tillverkarkod manufacturercode herstellercode brandcode",
    "Manufacturer": "tillverkare manufacturer hersteller produsent valmistaja brand varumarke merke marka vendor",
    "ManufacturerPartNo": "levartnr tillverkarensartnr manufacturerpartno mpn manufacturersku herstellernummer hanr "
    "herstellerartikelnummer produsentnr valmistajannumero",
    "SupplierPartNo": "artikelnr artikelnummer artnr sku leverantorsartnr supplierpartno supplierno vendorsku "
    "lieferantenartikelnummer leverandorvarenr itemno varenr tuotenumero productid",
    "ProductName": "namn name navn nimi bezeichnung titel title productname produktnamn benamning",
    "ActualWeight": "vikt viktkg weight weightkg gewicht gewichtkg vekt paino variantgrams",
    "GrossWeight": "bruttovikt grossweight bruttogewicht bruttovekt bruttopaino vikt weight gewicht vekt paino",
    "NetWeight": "nettovikt netweight nettogewicht nettovekt nettopaino",
    "WarehouseCode": "lager lagerkod warehouse warehousecode lagerort varasto lagersted facility",
    "LocationCode": "plats lagerplats location locationcode lagerplatz lokasjon lagerplass sijainti hylly bin",
    "OnhandValue": "saldo lagersaldo antal disponibelt qty quantity stock onhand instock bestand lagerbestand menge "
    "beholdning antall varastosaldo maara inventory available inventoryquantity variantinventoryqty stockquantity "
    "quantityonstock stocklevel",
    "IncomingValue": "pavag pavagin inkommande incoming inbound zulauf tilgang saapuva",
    "NextDeliveryDate": "nastaleverans leveransdatum nextdelivery deliverydate restockdate liefertermin nesteleveranse "
    "toimituspaiva",
    "LeadTimeDayCount": "ledtid leveranstid leadtime leadtimedays lieferzeit leveringstid toimitusaika days dagar",
    "OnOrderValue": "beordrat ibestallning onorder bestellt ibestilling tilauksessa reserved",
    "PriceListCode": "prislista prislistekod pricelist pricelistcode preisliste prisliste hinnasto pricegroup "
    "prisgrupp tierpricecustomergroup",
    "PriceSale": "pris prisexmoms utpris forsaljningspris price saleprice salesprice preis vk verkaufspreis salgspris "
    "hinta myyntihinta unitprice variantprice baseprice priceexvat netprice nettopreis tierprice centamount",
    "CostPurchase": "inpris inkopspris cost purchaseprice costprice ek einkaufspreis innpris kostpris ostohinta",
    "CostUnit": "sjalvkostnad unitcost costunit selvkost",
    "PriceRecommended": "rekpris rekommenderatpris rrp msrp recommendedprice uvp veilpris veiledendepris "
    "ohjehinta compareatprice variantcompareatprice listprice pseudoprice endkundenpreis",
    "PricePrevious": "ordpris ordinariepris tidigarepris oldprice previousprice wasprice regularprice forpris "
    "alterpreis vanhahinta",
    "QuantityBreak": "fran from fromqty tierpriceqty quantitybreak "
    "minqty tierqty staffel staffelmenge abmenge fraantall alkaenmaara",
    "CurrencyCode": "valuta valutakod currency currencycode wahrung valuutta",
    "StartDate": "startdatum fran franochmed startdate validfrom von gultigab startdato alkaa",
    "EndDate": "slutdatum till tillochmed enddate validto bis gultigbis sluttdato paattyy",
    "RelatedPartNo": "relateradartikel relaterad relatedpartno relatedsku relatedproduct till zubehor tilbehor "
    "liittyvatuote accessory",
    "RelationTypeCode": "relationstyp relation relationtype typ type beziehung relasjonstype",
    "EmailAddress": "epost epostadress email mail emailaddress emailadresse epostadresse sahkoposti",
    "FirstName": "fornamn firstname vorname fornavn etunimi givenname",
    "LastName": "efternamn lastname nachname etternavn sukunimi surname familyname",
    "PhoneNumber": "telefon telefonnr phone phonenumber telefonnummer tlf puhelin",
    "CellPhoneNumber": "mobil mobiltelefon cellphone mobile handy matkapuhelin",
    "OrganizationNo": "orgnr organisationsnr organisationsnummer organizationno organisasjonsnummer ytunnus "
    "handelsregisternummer companyno",
    "VatNo": "momsnr vatno vatnumber ustid ustidnr mvanr alvnumero momsregistreringsnr",
    "IsActive": "aktiv active enabled isactive aktiivinen kaytossa",
    "CommodityCode": "statnr statistiknummer tariffnr commoditycode hscode taric zolltarifnummer tullikoodi",
    "CategoryCode": "kategori kategorikod category varugrupp warengruppe varegruppe tuoteryhma group productgroup",
}  # fmt: skip

#: Headers that are less similar than this do not match.
MIN_SIMILARITY = 0.84


@cache
def normalize_header(text: str) -> str:
    """Reduce a header to lower-case letters and digits: `På väg (st)` becomes `pavagst`."""
    bare = unicodedata.normalize("NFKD", text.lower().replace("ø", "o").replace("æ", "a").replace("ß", "ss"))
    return re.sub(r"[^a-z0-9]", "", bare)


def match_fields(headers: Sequence[str], fields: Iterable[str]) -> dict[str, str]:
    """Match fields with headers, most similar first; each header is used once. Returns the header by field."""
    rankings = sorted(
        ((_similarity(header, name), -at, name, header) for name in fields for at, header in enumerate(headers)),
        reverse=True,
    )
    matches: dict[str, str] = {}
    for similarity, _, name, header in rankings:
        if similarity >= MIN_SIMILARITY and name not in matches and header not in matches.values():
            matches[name] = header
    return matches


def _similarity(header: str, name: str) -> float:
    written, field = normalize_header(header), normalize_header(name)
    if not written:
        return 0.0
    synonyms = SYNONYMS.get(name, "").split()
    if written == field:
        return 1.0
    if written in synonyms:
        return 0.99 - synonyms.index(written) / 1000
    words = [word for part in re.split(r"[^\w]+|_", header) if (word := normalize_header(part))]
    if len(words) > 1 and len(words[0]) > 2 and words[0] in synonyms:
        return 0.86  # `Pris exkl. moms`
    return max(_ratio(written, word) - 0.05 for word in (field, *synonyms))


def _ratio(written: str, word: str) -> float:
    """Return how alike two words are; 0 where upper bounds, which cost little, say that it is a coincidence."""
    if 2 * min(len(written), len(word)) < MIN_SIMILARITY * (len(written) + len(word)):
        return 0.0
    matcher = difflib.SequenceMatcher(None, written, word)
    return matcher.ratio() if matcher.quick_ratio() >= MIN_SIMILARITY else 0.0
