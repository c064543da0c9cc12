"""The table of styles."""

from prostafed.simulations.dicom.enhanced import ENHANCED
from prostafed.simulations.dicom.ge import GE
from prostafed.simulations.dicom.philips import PHILIPS
from prostafed.simulations.dicom.siemens import SIEMENS
from prostafed.simulations.dicom.style import Style
from prostafed.simulations.dicom.uih import UIH

STYLES: dict[str, Style] = {"siemens": SIEMENS, "ge": GE, "philips": PHILIPS, "uih": UIH, "enhanced": ENHANCED}
