"""From TIFFs to 8-bit crops: illumination, compression, locations, quality and the crop store."""
