"""Boilerplate: what stands where a caption should, but says nothing of the image.

File names, addresses, markup, dates, the placeholders of content systems, and the phrases of shops, players and stock
sites, in the languages where they are most met. A recipe adds its own phrases and placeholders.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Kind = Literal["html", "url", "numbers", "file_name", "placeholder", "phrases"]

_PLACEHOLDERS = """
image/images/img/photo/photos/picture/pictures/pic/untitled/no title/title/image title/photo title/alt/alt text
image alt text/image description/caption/no caption/none/null/nil/undefined/nan/default/placeholder/placeholder image
thumbnail/thumb/banner/header image/hero image/featured image/post image/cover image/product image/product photo
profile picture/profile photo/profile image/user avatar/avatar/icon/logo/site logo/company logo/spacer/blank/loading
advertisement/ad/figure/fig/slide/slideshow/page/picture of/image of/photo of/gallery/gallery image/screenshot
screen shot/scan/background/background image/main image/new image/my image/article image/blog image/attachment
attached image/untitled design/untitled document/test
bild/foto/kein bild/ohne titel/unbenannt/produktbild/vorschaubild/abbildung/grafik
imagen/sin título/imagem/sem título/sans titre/immagine/senza titolo/без названия
图片/圖片/图像/照片/相片/无标题/無標題/未命名/产品图片/商品图片/缩略图/暂无图片/配图/插图/默认图片
画像/写真/無題/タイトルなし/イメージ/商品画像/サムネイル/アイキャッチ画像
사진/이미지/무제/छवि/चित्र/फोटो/तस्वीर/शीर्षकहीन/ภาพ/รูปภาพ/รูป/ไม่มีชื่อ/صورة
"""
PLACEHOLDERS = frozenset(entry for line in _PLACEHOLDERS.split("\n") for entry in line.split("/") if entry)
"""Captions that are nothing else, casefolded; a number after them ("Image 3 of 12") changes nothing."""

_PHRASES = r"""
(?:please )?click (?:here|on|the|to|for|image|photo|picture)(?: (?:the )?(?:image|photo|picture))?
(?:to )?(?:enlarge|zoom(?: in)?)(?: (?:the )?(?:image|photo|picture))?
(?:tap|hover|roll over|mouse over) to
(?:for )?(?:a )?(?:larger|bigger|full[- ]?sized?|high[- ]?res(?:olution)?) (?:image|view|version|picture|photo)
(?:view|see|show|open) (?:in )?(?:full[- ]?(?:size|screen)|larger|new (?:tab|window)|gallery|all photos|details)
(?:image|photo|picture|preview) (?:is )?(?:currently )?(?:not |un)(?:available|found)
no (?:image|photo) available
(?:image|photo|picture) coming soon
image (?:may|might) be subject to copyright
broken image
(?:read|learn) more
(?:shop|buy) now
add to (?:cart|bag|basket|wishlist)
free shipping
sign up
log ?in
subscribe(?: to our newsletter)?
follow us(?: on \w+)?
like us on facebook
share (?:this |it )?(?:on|via|to) (?:facebook|twitter|pinterest|whatsapp|linkedin|email)
pin it
tweet this
all rights reserved
copyright
terms of (?:use|service)
privacy policy
cookies? policy
powered by wordpress
(?:royalty[- ]free )?stock (?:photo(?:s|graphy)?|images?|illustrations?|vectors?|footage|pictures?)(?! (?:of|with)\b)
royalty[- ]free(?: (?:photos?|images?|vectors?|illustrations?))?
vector (?:illustration|image|art)s?(?! (?:of|with)\b)
shutterstock|getty ?images|istock(?:photo)?|alamy|dreamstime|depositphotos|123rf|adobe ?stock|fotolia|bigstock
pixabay|unsplash
(?:free )?(?:image|photo) downloads?
free download
download (?:now|free)
lorem ipsum(?: dolor sit amet)?(?:,? consectetur adipiscing elit)?
javascript (?:is )?(?:disabled|required)
enable javascript
your browser does not support
(?:zum )?vergrössern(?: (?:hier )?klicken)?
(?:hier|bild) (?:an)?klicken(?: zum)?
bild nicht verfügbar
in den warenkorb
mehr (?:lesen|erfahren)
cliquez (?:ici|sur l.image)?(?: pour agrandir)?
pour agrandir
haga clic (?:aquí |en la imagen )?(?:para ampliar)?
clic para ampliar
clique para ampliar
点击(?:此处|这里|图片)?(?:查看|看|放大|浏览|进入|下载)?(?:大图|原图|图片|下一页|更多|详情)?
查看(?:大图|原图|更多|详情)
图片(?:加载中|加载失败|来源(?:于)?网络|不存在)
(?:扫码|扫描二维码|长按)(?:关注|识别|添加)?(?:公众号|二维码)?
版权所有
立即(?:购买|下载|注册)
加入购物车
关注我们|關注我們
点赞(?:收藏)?(?:关注|转发)?
网络配图
侵删
视觉中国|視覺中國
(?:画像を)?クリック(?:して|すると|で)?(?:拡大(?:表示|します)?)?
画像(?:なし|がありません)
続きを読む
準備中
बड़ा करने के लिए क्लिक करें
(?:यहाँ |यहां )?क्लिक करें
और पढ़ें
คลิก(?:ที่นี่|เพื่อ(?:ขยาย|ดู))?(?:ภาพ|รูป)?(?:ใหญ่)?
อ่านต่อ
"""
PHRASES = tuple(line for line in _PHRASES.split("\n") if line)
"""Regular expressions of what may cover part of a caption, casefolded (ß is ss)."""

_TAGS = (
    "a|abbr|article|b|body|br|button|center|cite|code|div|em|figcaption|figure|font|h[1-6]|head|hr|html|i|iframe"
    "|img|input|label|li|link|meta|nav|noscript|ol|p|picture|pre|script|section|small|source|span|strong|style|sub"
    "|sup|svg|table|tbody|td|th|tr|u|ul|video"
)
_ONE_LETTER = "a|b|i|p|q|s|u"
_LONG_TAGS = "|".join(tag for tag in _TAGS.split("|") if tag not in _ONE_LETTER.split("|"))
_HTML = re.compile(
    # A tag that closes, has attributes, begins the text, or has a name that prose does not put in angle brackets.
    rf"</(?:{_TAGS})\s*>|<(?:{_TAGS})(?:\s+[a-z-]+\s*=[^<>]*|\s*/)>|<(?:{_LONG_TAGS})(?:\s[^<>]*)?>|<!--"
    rf"|^<(?:{_ONE_LETTER})>|(?<=[.!?:] )<p>|<(?:{_TAGS})\s+[a-z-]+=|&nbsp;?|&(?:lt|gt|#\d{{2,5}});"
    rf"|(?<![\w-])(?:src|href|class|style|alt)=[\"'][^\"'<>]*[\"'>]"
    r"|\[/?(?:caption|gallery|img|embed)\b[^\]\[]*\]|\bfunction\s?\w*\([^()]{0,200}\)\s*\{"
    r"|%20\S|%[2-7][0-9a-f]%[2-7][0-9a-f]"
)
"""Markup. Prose is `I <3 you`, `a < b`, `x<b>`, `the function (blue)`, `>:(`."""
_TOP_DOMAINS = "com|org|net|info|biz|edu|gov|io|co|de|uk|cn|jp|in|fr|ru|th|tv|me|shop|blog"
_URL = re.compile(
    rf"(?:https?://|www\.)\S+|\b(?:[a-z0-9-]{{1,63}}\.){{1,4}}(?:{_TOP_DOMAINS})\b(?:/\S*)?(?![\w@])"
    r"|\b[\w.+-]{1,64}@[\w.-]{1,64}"
)
_EXTENSIONS = (
    "jpe?g|png|gif|webp|bmp|tiff?|svg|heic|heif|avif|ico|psd|raw|cr2|nef|arw|dng|mp4|mov|avi|webm|pdf|docx?|pptx?"
)
_FILE = re.compile(rf"[^\n\"]{{1,200}}\.(?:{_EXTENSIONS})(?:\s?\(\d+\)|\?\S*)?")
_CAMERA = re.compile(
    r"(?:img|image|photo|pic|picture|pict|dsc[nf]?|dscf|_dsc|dji|gopr?|mvimg|pxl|vid|sam|scan|cimg|hpim|kimg|burst|snap"
    r"|screen ?shot|capture|unnamed|untitled|download|file|fb_img|wp|mmexport|whatsapp image|bildschirmfoto"
    r"|captura(?: de pantalla)?|qq(?:截图|图片)|微信(?:图片|截图)|截图|截屏|スクリーンショット)"
    r"(?:[\s_.()#:-]|at|am|pm|\d)*\d(?:[\s_.()#:-]|at|am|pm|\d|edit(?:ed)?|copy|scaled|final|hdr|wa)*"
)
_STEM = re.compile(r"[a-z0-9]+(?:_[a-z0-9.()]+){2,}|[a-z0-9]+(?:-[a-z0-9]+){3,}|[a-z0-9-]+_[a-z0-9-]*\d[a-z0-9_-]*")
_IDENTIFIER = re.compile(r"[a-z0-9_.-]{8,}|[a-z]{1,3}\d{5,}")
_DATE_WORD = re.compile(
    r"\b(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?|januar|februar|märz|mai|juni|juli|oktober|dezember|(?:mon|tues?|wed(?:nes)?|thu(?:rs)?"
    r"|fri|sat(?:ur)?|sun)(?:day)?|montag|dienstag|mittwoch|donnerstag|freitag|samstag|sonntag|am|pm|uhr|of|at|x"
    r"|px|pixels?|kb|mb|usd|eur|gbp|rs|rmb|no|date|posted|on|updated|published)\b|(?<=\d)(?:st|nd|rd|th|x|px|k|t|z|kb|mb)\b"
    r"|[年月日时分秒号時点円元]|星期.|[上下]午"
)
_COUNT = re.compile(r"[\s#№:.,()\[\]_-]*(?:\d+|[ivx]{1,4}\b)?(?:\s*(?:of|/|von|de)\s*\d+)?[\s#.:,()\[\]!_-]*")


@dataclass(frozen=True)
class Boilerplate:
    """How much of a text is boilerplate: `share` of its letters, 1 where it is nothing else."""

    kind: Kind | None
    share: float


def boilerplate(text: str, phrases: Sequence[str] = (), placeholders: Sequence[str] = ()) -> Boilerplate:
    """What kind of boilerplate a text is, and the share of it.

    Markup anywhere counts for all of the text: what it left behind is seldom a sentence. Addresses and phrases count
    for the letters that they cover. Time is linear in the length.

    Args:
        phrases: literal phrases besides `PHRASES`.
        placeholders: whole captions besides `PLACEHOLDERS`.
    """
    text = unicodedata.normalize("NFKC", text).casefold().strip()
    if not text:
        return Boilerplate(None, 0.0)
    if _HTML.search(text):
        return Boilerplate("html", 1.0)
    bare = _URL.sub(" ", text)
    letters = _letters(text)
    if letters and not _letters(bare) and bare != text:
        return Boilerplate("url", 1.0)
    if not _letters(_DATE_WORD.sub(" ", bare)) and any(map(str.isdigit, text)):
        return Boilerplate("numbers", 1.0)
    if len(text) <= 255 and _is_file_name(text):
        return Boilerplate("file_name", 1.0)
    if len(text) <= 255 and _is_placeholder(text, frozenset(word.casefold() for word in placeholders)):
        return Boilerplate("placeholder", 1.0)
    left = _letters(_phrases(tuple(phrases)).sub(" ", bare))
    share = 1 - left / letters if letters else 0.0
    return Boilerplate("phrases" if share else None, share)


def _is_file_name(text: str) -> bool:
    if _FILE.fullmatch(text) and len(text.split()) <= 6:
        return True
    if _CAMERA.fullmatch(text):
        return True
    if " " in text:
        return False
    return bool(_STEM.fullmatch(text) or (_IDENTIFIER.fullmatch(text) and sum(map(str.isdigit, text)) >= 3))


def _is_placeholder(text: str, others: frozenset[str]) -> bool:
    """Whether the text is a placeholder, with at most a count after it."""
    bare = text.strip(" .:!…-_[](){}<>\"'#*")
    if bare in PLACEHOLDERS or bare in others:
        return True
    head = re.split(r"[\d#(\[]", bare, maxsplit=1)[0].strip(" .:-_№")
    return (head in PLACEHOLDERS or head in others) and _COUNT.fullmatch(bare[len(head) :]) is not None


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))


@lru_cache(maxsize=64)
def _phrases(others: tuple[str, ...]) -> re.Pattern[str]:
    own = [re.escape(unicodedata.normalize("NFKC", phrase).casefold()) for phrase in others if phrase.strip()]
    spaced = r"(?<![^\W_])(?:" + "|".join(PHRASES + tuple(own)) + r")(?![^\W_])"
    unspaced = "|".join(p for p in (*PHRASES, *own) if not p.isascii() and any(ord(c) > 0x0E00 for c in p))
    return re.compile(f"{spaced}|{unspaced}")
