"""The images of a document as one payload: a tar of its own, in which each can be found by its offset too."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curation.media.places import read_place
from curation.stage import Stage, measure_each
from curation.store.tar_shards import BLOCK_BYTES, ustar_header
from curation.vision.encoding import EXTENSIONS, EncodeImage

IMAGE_FILES = pa.list_(
    pa.struct(
        [
            pa.field("name", pa.string(), metadata={"description": "its name in the tar"}),
            pa.field("offset", pa.int64(), metadata={"description": "first byte in the tar", "unit": "bytes"}),
            pa.field("size", pa.int64(), metadata={"description": "length", "unit": "bytes"}),
        ]
    )
)


@dataclass(frozen=True)
class GatherImages(Stage):
    """Take each document's images into its sample, as a tar of `000.jpg`, `001.png`, … in their order.

    A document has any number of images, and all samples of a subset have the same parts: so they are one part. Its
    bytes are those of the files unless `image` asks for another format. A document of which an image cannot be read
    fails.
    """

    image: EncodeImage = EncodeImage()

    reads = ("images",)
    writes = ("payload", "payload_bytes", "image_files")
    locators = ("places",)
    packages = EncodeImage.packages

    def __call__(self, documents: pa.Table) -> pa.Table:
        columns = {"payload": pa.large_binary(), "payload_bytes": pa.int64(), "image_files": IMAGE_FILES}
        return measure_each(documents, columns, self.gathered, reads=("images", "places"))

    def gathered(self, document: dict[str, Any]) -> dict[str, Any]:
        """The tar of one document, and where its files lie in it."""
        tar = bytearray()
        files = []
        for number, (image, place) in enumerate(zip(document["images"], document["places"], strict=True)):
            data = self.image.encoded(read_place(place, content=image["image_hash"]))
            format_ = image["image_format"] if self.image.format == "original" else self.image.format
            name = f"{number:03d}.{EXTENSIONS[format_]}"
            tar += ustar_header(name, len(data))
            files.append({"name": name, "offset": len(tar), "size": len(data)})
            tar += data + bytes(-len(data) % BLOCK_BYTES)
        tar += bytes(2 * BLOCK_BYTES)
        return {"payload": bytes(tar), "payload_bytes": len(tar), "image_files": files}
