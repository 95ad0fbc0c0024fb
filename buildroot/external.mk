include $(sort $(wildcard $(BR2_EXTERNAL_SARAI_PATH)/package/*/*.mk))
include $(BR2_EXTERNAL_SARAI_PATH)/kernel.mk
