"""Generated studies as DICOM, in the styles of four vendors.

Every image says what it is with one standard attribute: Quality Control Image (0028,0300) = "YES", DICOM's own way to
say "a quality control or phantom image" (PS3.3 C.7.6.1). Ingestion reads it, so that a generated case stays called
"phantom" wherever it goes. Names, model and comments say it to a person as well.
"""

GENERATED_TAG = (0x0028, 0x0300)  # QualityControlImage
GENERATED_VALUE = "YES"
